/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The example with one thing wrong with it, or old: -DWHAT=... is carried out on copies of its
 * structs before they are handed over.
 */
#include "dmsim_target.h"

/* With its parentheses: the struct of that name keeps it. */
#define dmsim_plugin(x) good_plugin(x)
#include "../../examples/c/invert.c"
#undef dmsim_plugin

#include <pthread.h>
#include <unistd.h>

/* The longest struct that an older minor version had. */
#define SIZE_1_0 offsetof(struct dmsim_target_type, preresume)
/* As short as it may be. */
#define SIZE_MIN offsetof(struct dmsim_target_type, flush)

#ifndef CODE
#define CODE 77
#endif

static struct dmsim_target_type type;
static struct dmsim_plugin whole;
static const struct dmsim_target_type *list[65] = { &type };
static atomic_int running, most, resumed;

static int ctr_code(struct dmsim_args *args, void **handle)
{
	(void)args, (void)handle;
	return CODE;
}

/* A reason without an end, about a word that is not there. */
static int ctr_endless(struct dmsim_args *args, void **handle)
{
	(void)handle;
	memset(args->error, 'x', args->error_size);
	args->error_arg = 1000;
	return -EINVAL;
}

static int ctr_opens_nothing(struct dmsim_args *args, void **handle)
{
	(void)handle;
	return args->open(args, 99, 0, 1);
}

/* Says of discards what is also the third word. */
static int ctr_discarded(struct dmsim_args *args, void **handle)
{
	int err = invert_ctr(args, handle);

	if (!err)
		args->discarded = (uint32_t)args->max_io_len;
	return err;
}

/* Ends the process. */
static int write_wild(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
		      const void *buffer)
{
	int *volatile nowhere = NULL;

	(void)handle, (void)io, (void)sector, (void)sectors, (void)buffer;
	return *nowhere;
}

/* Nothing wrong: a lock that is held while the I/O is under way. */
static int write_locked(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
			const void *buffer)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int err;

	pthread_mutex_lock(&lock);
	err = invert_write(handle, io, sector, sectors, buffer);
	pthread_mutex_unlock(&lock);
	return err;
}

static int read_code(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
		     void *buffer)
{
	(void)handle, (void)io, (void)sector;
	memset(buffer, 0x55, sectors * 512);
	return CODE;
}

static int write_code(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
		      const void *buffer)
{
	(void)handle, (void)io, (void)sector, (void)sectors, (void)buffer;
	return CODE;
}

/* Asks for what it must not have, and says so when it gets it. */
static int read_elsewhere(void *handle, const struct dmsim_io *io, uint64_t sector,
			  uint64_t sectors, void *buffer)
{
	(void)handle, (void)sector, (void)sectors;
	if (io->read(io, 1, 0, 1, buffer) != -EINVAL || io->read(io, ~0u, 0, 1, buffer) != -EINVAL)
		return -ENOSPC;
	if (io->read(io, 0, 64, 1, buffer) != -EIO || io->read(io, 0, UINT64_MAX, 1, buffer) != -EIO)
		return -ENOSPC;
	if (io->read(io, 0, 0, DMSIM_MAX_IO + 1, buffer) != -EINVAL)
		return -ENOSPC;
	if (io->read(io, 0, 0, 1, NULL) != -EINVAL || io->write(io, 0, 0, 1, NULL) != -EINVAL)
		return -ENOSPC;
	if (io->write(io, 0, 64, 1, buffer) != -EIO || io->flush(io, 7) != -EINVAL)
		return -ENOSPC;
	if (io->discard(io, 0, 63, 2) != -EIO || io->write_zeroes(io, 0, 1, UINT64_MAX) != -EIO)
		return -ENOSPC;
	return -ETIMEDOUT; /* all was refused */
}

static int status_code(void *handle, uint32_t kind, const char *const *devices, char *buffer,
		       size_t size)
{
	(void)handle, (void)kind, (void)devices;
	memset(buffer, 'x', size); /* no zero byte anywhere */
	return CODE;
}

static int message_code(void *handle, uint32_t argc, const char *const *argv, char *answer,
			size_t size)
{
	return status_code(handle, argc, argv, answer, size);
}

/* A text that needs more room than it is first given. */
static int status_long(void *handle, uint32_t kind, const char *const *devices, char *buffer,
		       size_t size)
{
	(void)handle, (void)kind, (void)devices;
	return snprintf(buffer, size, "%020000d", 7);
}

/* Notes how many run at once, and takes a while. */
static int read_slowly(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
		       void *buffer)
{
	int now = atomic_fetch_add(&running, 1) + 1, seen = atomic_load(&most), err;

	while (now > seen && !atomic_compare_exchange_weak(&most, &seen, now))
		;
	usleep(30000);
	err = invert_read(handle, io, sector, sectors, buffer);
	atomic_fetch_sub(&running, 1);
	return err;
}

static int status_of_reads(void *handle, uint32_t kind, const char *const *devices, char *buffer,
			   size_t size)
{
	if (kind == DMSIM_STATUS_TABLE)
		return invert_status(handle, kind, devices, buffer, size);
	return snprintf(buffer, size, "%d running %d most %d resumed", atomic_load(&running),
			atomic_load(&most), atomic_load(&resumed));
}

static int preresume(void *handle, const struct dmsim_io *io)
{
	unsigned char sector[512];

	(void)handle;
	atomic_fetch_add(&resumed, 1);
	return io->read(io, 0, 0, 1, sector);
}

static int plain_code(void *handle, const struct dmsim_io *io)
{
	(void)handle, (void)io;
	return CODE;
}

static int postsuspend(void *handle, const struct dmsim_io *io)
{
	(void)handle, (void)io;
	/* Whatever still runs would make the number odd. */
	atomic_fetch_add(&resumed, atomic_load(&running) ? 1 : 100);
	return 0;
}

const struct dmsim_plugin *dmsim_plugin(void)
{
	whole = *good_plugin();
	type = *whole.targets[0];
	whole.targets = list;
	WHAT;
	return &whole;
}

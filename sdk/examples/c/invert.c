/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * invert <dev> <start> [<max io sectors>]: every byte of a device, inverted.
 *
 *     cc -shared -fPIC -I sdk/include -o libinvert.so sdk/examples/c/invert.c
 *     dmsim start --plugin ./libinvert.so
 *     dmsim create x --table "0 2048 invert disk.img 0"
 */
#include <stdatomic.h>
#include <stdlib.h>

#include "dmsim_target.h"

struct invert {
	uint64_t start;
	uint64_t max_io_len;
	/* Callbacks run side by side. */
	atomic_ullong reads, writes;
};

static int invert_ctr(struct dmsim_args *args, void **handle)
{
	uint64_t start, max = 0;
	struct invert *invert;
	int err;

	/* The place of the first word that is missing, or is too many. */
	if (args->argc != 2 && args->argc != 3)
		return dmsim_ctr_error(args, args->argc < 2 ? (int)args->argc : 3,
				       "Invalid argument count");
	err = dmsim_ctr_number(args, 1, &start, "Invalid device sector");
	if (err)
		return err;
	if (args->argc == 3) {
		err = dmsim_ctr_number(args, 2, &max, "Invalid max_io_len");
		if (err)
			return err;
	}
	err = args->open(args, 0, start, args->target_len);
	if (err < 0)
		return err; /* dmsim says what is wrong with the device */
	invert = calloc(1, sizeof(*invert));
	if (!invert)
		return -ENOMEM;
	invert->start = start;
	invert->max_io_len = max;
	args->max_io_len = max;
	*handle = invert;
	return 0;
}

static void invert_dtr(void *handle)
{
	free(handle);
}

static void flip(unsigned char *to, const unsigned char *from, uint64_t sectors)
{
	for (uint64_t i = 0; i < sectors * 512; i++)
		to[i] = (unsigned char)~from[i];
}

static int invert_read(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
		       void *buffer)
{
	struct invert *invert = handle;
	int err = io->read(io, 0, sector, sectors, buffer);

	if (err)
		return err;
	flip(buffer, buffer, sectors);
	atomic_fetch_add(&invert->reads, 1);
	return 0;
}

static int invert_write(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
			const void *buffer)
{
	struct invert *invert = handle;
	unsigned char *data = malloc(sectors * 512);
	int err;

	if (!data)
		return -EIO;
	flip(data, buffer, sectors);
	err = io->write(io, 0, sector, sectors, data);
	free(data);
	if (!err)
		atomic_fetch_add(&invert->writes, 1);
	return err;
}

static int invert_discard(void *handle, const struct dmsim_io *io, uint64_t sector,
			  uint64_t sectors)
{
	(void)handle;
	return io->discard(io, 0, sector, sectors);
}

static int invert_status(void *handle, uint32_t kind, const char *const *devices, char *buffer,
			 size_t size)
{
	struct invert *invert = handle;

	if (kind == DMSIM_STATUS_INFO)
		return snprintf(buffer, size, "%llu reads %llu writes",
				(unsigned long long)atomic_load(&invert->reads),
				(unsigned long long)atomic_load(&invert->writes));
	if (invert->max_io_len)
		return snprintf(buffer, size, "%s %llu %llu", devices[0],
				(unsigned long long)invert->start,
				(unsigned long long)invert->max_io_len);
	return snprintf(buffer, size, "%s %llu", devices[0], (unsigned long long)invert->start);
}

static int invert_message(void *handle, uint32_t argc, const char *const *argv, char *answer,
			  size_t size)
{
	struct invert *invert = handle;

	if (argc == 1 && !strcmp(argv[0], "reset")) {
		atomic_store(&invert->reads, 0);
		atomic_store(&invert->writes, 0);
		return 0;
	}
	if (argc == 1 && !strcmp(argv[0], "max_io_len"))
		return snprintf(answer, size, "%llu", (unsigned long long)invert->max_io_len);
	return -EINVAL;
}

static const struct dmsim_target_type invert = {
	.size = sizeof(invert),
	.version = { 1, 0, 0 },
	.name = "invert",
	.ctr = invert_ctr,
	.dtr = invert_dtr,
	.read = invert_read,
	.write = invert_write,
	.discard = invert_discard,
	.status = invert_status,
	.message = invert_message,
};

static const struct dmsim_target_type *const types[] = { &invert };

static const struct dmsim_plugin plugin = {
	.size = sizeof(plugin),
	.abi_major = DMSIM_ABI_MAJOR,
	.abi_minor = DMSIM_ABI_MINOR,
	.target_count = 1,
	.targets = types,
};

const struct dmsim_plugin *dmsim_plugin(void)
{
	return &plugin;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The example of version 1.1 as it was, by the header of then, with the callbacks that 1.1 added. */
#include "../data/abi-1.1/dmsim_target.h"

/* With its parentheses: the struct of that name keeps it. */
#define dmsim_plugin(x) recorded_plugin(x)
#include "../data/abi-1.1/invert.c"
#undef dmsim_plugin

static struct dmsim_target_type type;
static struct dmsim_plugin whole;
static const struct dmsim_target_type *const list[] = { &type };
static atomic_int resumed, suspended;

static int preresume(void *handle, const struct dmsim_io *io)
{
	unsigned char sector[512];

	(void)handle;
	atomic_fetch_add(&resumed, 1);
	return io->read(io, 0, 0, 1, sector);
}

static int postsuspend(void *handle, const struct dmsim_io *io)
{
	(void)handle, (void)io;
	atomic_fetch_add(&suspended, 1);
	return 0;
}

static int status(void *handle, uint32_t kind, const char *const *devices, char *buffer,
		  size_t size)
{
	(void)handle, (void)kind, (void)devices;
	return snprintf(buffer, size, "%d resumed %d suspended", atomic_load(&resumed),
			atomic_load(&suspended));
}

const struct dmsim_plugin *dmsim_plugin(void)
{
	whole = *recorded_plugin();
	type = *whole.targets[0];
	whole.targets = list;
	type.preresume = preresume;
	type.postsuspend = postsuspend;
	type.status = status;
	return &whole;
}

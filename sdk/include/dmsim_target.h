/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * dmsim_target.h: target types for dmsim as a shared library, in C or whatever speaks C.
 *
 *     cc -shared -fPIC -I sdk/include -o libmine.so mine.c
 *     dmsim start --plugin ./libmine.so
 *
 * The library exports one function, dmsim_plugin(), which returns the description of what is in
 * it. docs/abi.md says the same at more length, with the promise that comes with it.
 *
 * Units: addresses and lengths are in sectors of 512 bytes, and are relative to the target, or to
 * the range of a device that the target opened. Ranges never end past the target or the range.
 *
 * Return values: unless it says otherwise, 0 is success, and a negative number of <errno.h> a
 * failure (-EIO). A bio can fail with -EIO, -EOPNOTSUPP, -ENOSPC, -ETIMEDOUT, -ENODATA (medium
 * error), -EILSEQ (integrity error) and -ENODEV; any other number is taken for -EIO.
 *
 * Threads: callbacks that are given a struct dmsim_io may block. They run on threads that dmsim
 * keeps for each target, up to DMSIM_THREADS of them at the same time for one handle, so the
 * plug-in locks what they share. All others (ctr, dtr, status, message) are called by the thread
 * that needs the answer: they must not block, and status and message may come at the same time
 * as anything else. Nothing runs before ctr has returned, nor once dtr is called.
 */
#ifndef DMSIM_TARGET_H
#define DMSIM_TARGET_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. A plug-in runs with the same major and any later minor. */
#define DMSIM_ABI_MAJOR 1
#define DMSIM_ABI_MINOR 2

/* How many callbacks of one handle may run at the same time. */
#define DMSIM_THREADS 16
/* The longest I/O on a device, in sectors. */
#define DMSIM_MAX_IO 65536
/* The longest text of status, and the room for an answer to a message, in bytes. */
#define DMSIM_MAX_STATUS 1048576
#define DMSIM_MAX_ANSWER 65536

/* Features of a type, as the kernel's DM_TARGET_* bits. Unknown bits are refused. */
#define DMSIM_SINGLETON 1u        /* must be the only target of its table */
#define DMSIM_ALWAYS_WRITEABLE 2u /* cannot be in a read-only table */
#define DMSIM_IMMUTABLE 4u        /* a live table with it is replaced by one of its own kind alone */

/* Which text status() is asked for. */
#define DMSIM_STATUS_INFO 0u  /* how the target is: dmsetup status */
#define DMSIM_STATUS_TABLE 1u /* what it was made from: dmsetup table */

/* What a discarded range reads as (1.2). */
#define DMSIM_DISCARDED_ANYTHING 0u /* nothing is promised */
#define DMSIM_DISCARDED_ZEROS 1u    /* zeros */
#define DMSIM_DISCARDED_AS_BELOW 2u /* what the devices below make of it: zeros there are zeros here,
				     * and discards are passed on */

/* The words of a table line, and the way to what they name. Valid until ctr returns. */
struct dmsim_args {
	uint32_t size; /* of this struct; a later minor version may be longer */
	/* The words after the type, each ended by a zero byte. */
	uint32_t argc;
	const char *const *argv;
	/* The length of the target, in sectors. */
	uint64_t target_len;
	/* Not zero: the table is read-only, and writes to devices fail with -EROFS. */
	uint32_t read_only;
	/* Where ctr says what is wrong, ended by a zero byte, and the room there. */
	uint32_t error_size;
	char *error;
	/* Set by ctr: the word at fault, counted from 0; -1: none. */
	int32_t error_arg;
	uint32_t reserved;
	/* Set by ctr: bios are cut at multiples of this many sectors; 0: only where dmsim must. */
	uint64_t max_io_len;
	/* dmsim's own. */
	void *host;
	/*
	 * Opens `len` sectors from `start` on of the device that word `arg` names.
	 * Returns the device's index for dmsim_io (0, then 1, ...), or a negative errno. ctr may
	 * return that errno as it is: where it wrote no text of its own, dmsim says what was wrong.
	 * Devices are closed when ctr fails, or after dtr.
	 */
	int (*open)(struct dmsim_args *args, uint32_t arg, uint64_t start, uint64_t len);

	/* Here ends version 1.1. */

	/*
	 * Set by ctr: one of DMSIM_DISCARDED_*; any other number fails the table. Holes are punched
	 * into the device's file where every target promises zeros. A part of a discard that is left
	 * alone, as it is too short, say, is zeroed by writes.
	 */
	uint32_t discarded;
	uint32_t reserved_1_2; /* 0 */
};

/*
 * I/O on the devices that ctr opened. Valid until the callback that it was given to returns, on
 * any thread. Each function waits for the end of the I/O, and returns 0 or a negative errno:
 * -EINVAL for an index that is no device, a null buffer or more than DMSIM_MAX_IO sectors, -EIO for a
 * range that is not within what was opened, -EROFS for a change to a read-only table's device, or
 * what the device answered. Discards and write-zeroes have no limit of length.
 */
struct dmsim_io {
	uint32_t size; /* of this struct; a later minor version may be longer */
	/* How many devices there are. */
	uint32_t devices;
	/* dmsim's own. */
	void *host;
	int (*read)(const struct dmsim_io *io, uint32_t device, uint64_t sector, uint64_t sectors,
		    void *buffer);
	/* Volatile until a flush. */
	int (*write)(const struct dmsim_io *io, uint32_t device, uint64_t sector, uint64_t sectors,
		     const void *buffer);
	/* Makes durable what was written before. */
	int (*flush)(const struct dmsim_io *io, uint32_t device);
	int (*discard)(const struct dmsim_io *io, uint32_t device, uint64_t sector, uint64_t sectors);
	int (*write_zeroes)(const struct dmsim_io *io, uint32_t device, uint64_t sector,
			    uint64_t sectors);
};

/* A target type. Every callback but ctr, read and write may be null. */
struct dmsim_target_type {
	uint32_t size; /* sizeof(struct dmsim_target_type) */
	uint32_t features;
	/* The type's own version, as dmsetup targets prints it. */
	uint32_t version[3];
	uint32_t reserved; /* 0 */
	/* The word in table lines: 1 to 15 visible ASCII characters. */
	const char *name;

	/*
	 * Makes a target from a table line; `*handle` is what the other callbacks are given (null
	 * is as good as any). Does no I/O: that has its place in preresume.
	 * Returns 0, or a negative errno (-EINVAL) with the reason in args->error and
	 * args->error_arg. Any other number is a failure too. dtr is not called then.
	 */
	int (*ctr)(struct dmsim_args *args, void **handle);
	/* Takes a target apart. Called once, when nothing else runs. */
	void (*dtr)(void *handle);

	/* Fills `buffer`, sectors * 512 bytes, which holds zeros. */
	int (*read)(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
		    void *buffer);
	/*
	 * Stores `buffer`. May keep it volatile until flush; dmsim follows a FUA write with a
	 * flush before it says that it has ended.
	 */
	int (*write)(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors,
		     const void *buffer);
	/*
	 * Makes durable every write that had ended before. Null: dmsim flushes each device that
	 * the target opened, which is right where nothing is kept in memory.
	 */
	int (*flush)(void *handle, const struct dmsim_io *io);
	/* Gives a range up; what it reads as is the target's choice. Null: not supported. */
	int (*discard)(void *handle, const struct dmsim_io *io, uint64_t sector, uint64_t sectors);
	/* Makes a range read as zeros. Null: not supported. */
	int (*write_zeroes)(void *handle, const struct dmsim_io *io, uint64_t sector,
			    uint64_t sectors);

	/*
	 * Writes one of the texts of DMSIM_STATUS_*, and ends it by a zero byte. `devices` are the
	 * names to print for the devices, by their index.
	 * Returns what snprintf returns: the length of the text without the zero byte, also where
	 * it does not fit; it is then asked again with more room, up to DMSIM_MAX_STATUS. A
	 * negative number, or a text that is not one line of UTF-8, gives "Error" as status, and
	 * as table the words that ctr was given. Null: an empty status, and those words.
	 */
	int (*status)(void *handle, uint32_t kind, const char *const *devices, char *buffer,
		      size_t size);
	/*
	 * Takes a message of at least one word, and may answer with a text.
	 * Returns the length of the answer, 0 for none, which must fit in `size`; or a negative
	 * errno. Anything else is taken for -EIO. Null: the type takes no messages.
	 */
	int (*message)(void *handle, uint32_t argc, const char *const *argv, char *answer,
		       size_t size);

	/* Here ends version 1.0. */

	/*
	 * Gets ready for bios: reads metadata, for one thing. Called before the first bio, and
	 * at each resume. An errno keeps the device suspended.
	 */
	int (*preresume)(void *handle, const struct dmsim_io *io);
	/*
	 * Writes down what is in memory. Called at each suspend, when every bio has ended. A
	 * failure is logged, and the device is suspended all the same.
	 */
	int (*postsuspend)(void *handle, const struct dmsim_io *io);
};

/* What is in a library. */
struct dmsim_plugin {
	uint32_t size;      /* sizeof(struct dmsim_plugin) */
	uint16_t abi_major; /* DMSIM_ABI_MAJOR */
	uint16_t abi_minor; /* DMSIM_ABI_MINOR */
	uint32_t target_count; /* 1 to 64 */
	uint32_t reserved;     /* 0 */
	const struct dmsim_target_type *const *targets;
};

/*
 * Returns the description, which lives as long as the library: for ever, as it is never unloaded.
 * Null: the library refuses to be loaded. The one symbol that a plug-in exports.
 */
const struct dmsim_plugin *dmsim_plugin(void);

/* Says in ctr what is wrong, with which word (-1: the line as a whole). Returns -EINVAL. */
static inline int dmsim_ctr_error(struct dmsim_args *args, int arg, const char *text)
{
	args->error_arg = arg;
	snprintf(args->error, args->error_size, "%s", text);
	return -EINVAL;
}

/* Reads word `arg` as a decimal number, in ctr. Returns 0, or -EINVAL with `text` as reason. */
static inline int dmsim_ctr_number(struct dmsim_args *args, uint32_t arg, uint64_t *number,
				   const char *text)
{
	const char *digit;

	*number = 0;
	if (arg >= args->argc || !args->argv[arg][0])
		return dmsim_ctr_error(args, (int)arg, text);
	for (digit = args->argv[arg]; *digit; digit++) {
		uint64_t value = (uint64_t)(*digit - '0');

		if (*digit < '0' || *digit > '9' || *number > (UINT64_MAX - value) / 10)
			return dmsim_ctr_error(args, (int)arg, text);
		*number = *number * 10 + value;
	}
	return 0;
}

#ifdef __cplusplus
}
#endif

#endif /* DMSIM_TARGET_H */

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* No plug-in, or one that says it is in Rust, of some other making. */
#include <stdint.h>

#ifdef RUST_STAMP
const struct {
	uint32_t size, stamp_len;
	const char *stamp;
	void (*types)(void);
} dmsim_rust_plugin = { 24, 17, "sim-core 9, rustc", 0 };
#else
int nothing;
#endif

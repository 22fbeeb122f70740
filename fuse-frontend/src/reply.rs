//! Sends answers to the kernel: the replies of `fuser` as those of requests.

use fuser::{Errno as FuseErrno, ReplyData, ReplyEmpty, ReplyWrite};
use sim_core::Errno;

use crate::request::Reply;

impl Reply<[u8]> for ReplyData {
    fn ok(self, data: &[u8]) {
        self.data(data);
    }
    fn error(self, errno: Errno) {
        ReplyData::error(self, fuse(errno));
    }
}

impl Reply<u32> for ReplyWrite {
    fn ok(self, written: &u32) {
        self.written(*written);
    }
    fn error(self, errno: Errno) {
        ReplyWrite::error(self, fuse(errno));
    }
}

impl Reply<()> for ReplyEmpty {
    fn ok(self, (): &()) {
        ReplyEmpty::ok(self);
    }
    fn error(self, errno: Errno) {
        ReplyEmpty::error(self, fuse(errno));
    }
}

/// Returns an error as the kernel is told it.
pub(crate) fn fuse(errno: Errno) -> FuseErrno {
    FuseErrno::from_i32(errno.0)
}

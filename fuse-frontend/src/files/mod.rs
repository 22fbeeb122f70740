//! The files of a mount, as whoever carries requests to them sees it: a [`Request`] comes in, and
//! ends in a [`Reply`].
//!
//! Nothing here knows how requests travel. A transport decodes what a client asks, calls
//! [`Service::serve`] with a reply of its own, and encodes what that is told. [`request`] carries
//! out one request on one device; tests and fuzzers drive it in process.

mod answers;
mod barrier;
mod directory;
mod end;
mod marker;
mod nodes;
mod operation;
mod ranges;
mod reply;
pub mod request;
mod service;
mod task;
mod truncate;

pub use answers::{
    Attributes, Entry, Kind, Listed, Listing, Opened, Output, Pages, Polled, Position, Statistics,
};
pub use barrier::barred;
pub use marker::{MAX_MARK, mark_message};
pub(crate) use nodes::ROOT;
pub use nodes::User;
pub use operation::{Caller, Ioctl, Operation, Origin, Request, Service, SetAttributes};
pub use reply::{Interruption, Refuse, Replies, Reply};
pub(crate) use service::KeptPages;
pub use service::{Files, Mount};
pub use task::Tasks;

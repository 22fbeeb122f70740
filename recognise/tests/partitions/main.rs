//! Partition tables that real tools made are read as libblkid and sfdisk read them, and hostile ones do no harm.

#[cfg(test)]
mod gpt;
#[cfg(test)]
mod hostile;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod images;
#[cfg(test)]
mod mbr;
#[cfg(test)]
mod nothing;
#[cfg(test)]
mod support;

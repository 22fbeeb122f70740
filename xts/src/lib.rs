//! AES-XTS over whole disk sectors.

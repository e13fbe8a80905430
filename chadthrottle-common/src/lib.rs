//! What the kernel programs and user space share: the values of the maps, and the arithmetic of
//! a limit.
//!
//! Everything here is `no_std`, `#[repr(C)]` and free of padding; the size of each value is
//! asserted at compile time, because both sides read the same bytes.

#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod clock;
pub mod event;
pub mod landing;
pub mod limit;
pub mod names;
pub mod newcomer;
pub mod round_trip;
pub mod send_window;
pub mod slots;
pub mod tag;
pub mod traffic;
pub mod window;

/// Marks plain-data map values for aya and pins their size, which both sides must agree on.
macro_rules! map_value {
    ($type:ty, $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size);
        // SAFETY: repr(C), made of integers only, without padding (the size is asserted above and
        // equals the sum of the fields): any bytes are a valid value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $type {}
    };
}
pub(crate) use map_value;

//! The interface from outside: pictures at many sizes, arbitrary keys, and the event loop with a
//! made-up terminal.

// clippy.toml allows these in tests, and does not see that the functions tests share are tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod any_keys;
mod picture;
mod scene;
mod screens;
mod session;
mod speed;

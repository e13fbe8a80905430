//! What there is once for each direction, or class, of traffic.

use chadthrottle_common::{address::TrafficClass, traffic::Direction};
use serde::{Deserialize, Serialize};

use crate::rate::Rate;

/// A value for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerDirection<T> {
    /// Received by processes of this machine.
    pub download: T,
    /// Sent by them.
    pub upload: T,
}

impl<T: Copy> PerDirection<T> {
    /// A value for each direction.
    pub fn of(mut value: impl FnMut(Direction) -> T) -> Self {
        Self {
            download: value(Direction::Download),
            upload: value(Direction::Upload),
        }
    }

    /// Each value turned into another.
    pub fn map<U: Copy>(self, mut f: impl FnMut(T) -> U) -> PerDirection<U> {
        PerDirection::of(|direction| f(*self.get(direction)))
    }
}

impl<T> PerDirection<T> {
    /// The value of one direction.
    pub fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::Download => &self.download,
            Direction::Upload => &self.upload,
        }
    }

    /// The value of one direction, to change it.
    pub fn get_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Download => &mut self.download,
            Direction::Upload => &mut self.upload,
        }
    }
}

/// A value for each class of traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerClass<T> {
    /// What is not local.
    pub internet: T,
    /// This machine and its networks.
    pub local: T,
}

impl<T: Copy> PerClass<T> {
    /// A value for each class.
    pub fn of(mut value: impl FnMut(TrafficClass) -> T) -> Self {
        Self {
            internet: value(TrafficClass::Internet),
            local: value(TrafficClass::Local),
        }
    }

    /// Each value turned into another.
    pub fn map<U: Copy>(self, mut f: impl FnMut(T) -> U) -> PerClass<U> {
        PerClass::of(|class| f(*self.get(class)))
    }
}

impl<T> PerClass<T> {
    /// The value of one class.
    pub fn get(&self, class: TrafficClass) -> &T {
        match class {
            TrafficClass::Internet => &self.internet,
            TrafficClass::Local => &self.local,
        }
    }
}

/// The limits of a target; nothing means unlimited, a rate of 0 means blocked.
pub type Limits = PerDirection<Option<Rate>>;

impl Limits {
    /// Whether neither direction is limited.
    pub fn is_unlimited(&self) -> bool {
        self.download.is_none() && self.upload.is_none()
    }

    /// Whether a direction is limited to nothing at all.
    pub fn is_blocked(&self) -> bool {
        [self.download, self.upload].contains(&Some(Rate::ZERO))
    }
}

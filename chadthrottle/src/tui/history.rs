//! What was moved over the last minutes, by the whole machine and by each process.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::model::{direction::PerDirection, process::ProcessKey, snapshot::Snapshot};

/// How many samples are kept: five minutes of the usual ones.
const KEPT: usize = 300;

/// Bytes a second; half the size of a [`Rate`](crate::rate::Rate) each, and as exact as a picture.
pub type Point = PerDirection<f32>;

/// The rates of the last samples.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When each sample was taken and how long since the one before, oldest first.
    samples: VecDeque<(SystemTime, Duration)>,
    /// The number, among all samples, of the oldest that is kept.
    oldest: u64,
    /// The snapshot that was taken last.
    sequence: Option<u64>,
    host: Track,
    processes: HashMap<ProcessKey, Track>,
}

/// One line of points. What is quiet costs nothing: zeros are written when it moves again.
#[derive(Clone, Debug, Default)]
struct Track {
    /// The number of the sample after its newest point.
    end: u64,
    points: VecDeque<Point>,
}

impl Track {
    fn push(&mut self, sample: u64, point: Point) {
        let gap = sample.saturating_sub(self.end);
        if gap >= KEPT as u64 {
            self.points.clear();
        } else if !self.points.is_empty() {
            let zeros = std::iter::repeat_n(Point::default(), gap as usize);
            self.points.extend(zeros);
        }
        self.points.push_back(point);
        self.end = sample + 1;
        let surplus = self.points.len().saturating_sub(KEPT);
        self.points.drain(..surplus);
    }

    fn get(&self, sample: u64) -> Point {
        let begin = self.end - self.points.len() as u64;
        let at = sample.checked_sub(begin).map(|at| at as usize);
        at.and_then(|at| self.points.get(at))
            .copied()
            .unwrap_or_default()
    }
}

impl History {
    /// Takes a sample in; a picture of the same readings as the last changes nothing.
    pub fn take(&mut self, snapshot: &Snapshot) {
        if self.sequence == Some(snapshot.sequence) {
            return;
        }
        self.sequence = Some(snapshot.sequence);
        if self.samples.len() == KEPT {
            self.samples.pop_front();
            self.oldest += 1;
        }
        let sample = self.oldest + self.samples.len() as u64;
        self.samples.push_back((snapshot.time, snapshot.interval));
        let point =
            |rate: PerDirection<crate::rate::Rate>| rate.map(|rate| rate.bytes_per_second() as f32);
        let moved = PerDirection::of(|direction| snapshot.moved(direction).0);
        self.host.push(sample, point(moved));
        for row in &snapshot.processes {
            let point = point(row.rate);
            if point != Point::default() {
                self.processes
                    .entry(row.key)
                    .or_default()
                    .push(sample, point);
            }
        }
        let oldest = self.oldest;
        self.processes.retain(|_, track| track.end > oldest);
    }

    /// How far back it reaches.
    pub fn span(&self) -> Duration {
        let first = self
            .samples
            .front()
            .map(|(time, interval)| *time - *interval);
        let last = self.samples.back().map(|(time, _)| *time);
        match (first, last) {
            (Some(first), Some(last)) => last.duration_since(first).unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }

    /// The whole machine's rates over the last `span` in so many columns, oldest first; nothing
    /// where there was no sample.
    pub fn host(&self, columns: usize, span: Duration) -> Vec<Option<Point>> {
        self.columns(columns, span, |sample| self.host.get(sample))
    }

    /// The same for some processes together.
    pub fn of(
        &self,
        keys: impl Iterator<Item = ProcessKey>,
        columns: usize,
        span: Duration,
    ) -> Vec<Option<Point>> {
        let tracks: Vec<&Track> = keys.filter_map(|key| self.processes.get(&key)).collect();
        self.columns(columns, span, |sample| {
            let points = tracks.iter().map(|track| track.get(sample));
            points.fold(Point::default(), |sum, point| Point {
                download: sum.download + point.download,
                upload: sum.upload + point.upload,
            })
        })
    }

    /// In each column the largest of its samples.
    fn columns(
        &self,
        columns: usize,
        span: Duration,
        point: impl Fn(u64) -> Point,
    ) -> Vec<Option<Point>> {
        let mut filled = vec![None; columns];
        let Some(newest) = self.samples.back() else {
            return filled;
        };
        if columns == 0 || span.is_zero() {
            return filled;
        }
        let width = span.as_secs_f64() / columns as f64;
        // Columns begin at whole multiples of their width, so that the picture moves on column by
        // column rather than change its shape with every sample.
        let covered = |(time, interval): &(SystemTime, Duration)| {
            let end = time
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64()
                / width;
            let begin = end - interval.as_secs_f64() / width;
            // Those whose middles lie in it; else the one that it lies in.
            let (from, to) = ((begin - 0.5).floor() + 1.0, (end - 0.5).floor());
            match from <= to {
                true => (from as i64, to as i64),
                false => {
                    let middle = ((begin + end) / 2.0).floor() as i64;
                    (middle, middle)
                }
            }
        };
        let (_, last) = covered(newest);
        for (at, sample) in self.samples.iter().enumerate().rev() {
            // The sample stands for the time since the one before.
            let (from, to) = covered(sample);
            let place = |column: i64| columns as i64 - 1 - (last - column);
            let (from, to) = (place(from).max(0), place(to));
            if to < 0 {
                break;
            }
            let point = point(self.oldest + at as u64);
            for place in from..=to.min(columns as i64 - 1) {
                let most = filled[place as usize].get_or_insert(Point::default());
                most.download = most.download.max(point.download);
                most.upload = most.upload.max(point.upload);
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{demo::World, rate::Rate};

    /// A world of one process that downloads what it is told, second by second.
    fn fed(rates: &[u64]) -> (History, ProcessKey) {
        let start = UNIX_EPOCH + Duration::from_secs(600);
        let mut snapshot = World::new(1, 1, start).snapshot().clone();
        let key = snapshot.processes[0].key;
        let mut history = History::default();
        for rate in rates {
            snapshot.sequence += 1;
            snapshot.time += Duration::from_secs(1);
            snapshot.processes[0].rate.download = Rate::from_bytes_per_second(*rate);
            snapshot.total_rate.download = Rate::from_bytes_per_second(rate * 2);
            history.take(&snapshot);
            history.take(&snapshot);
        }
        (history, key)
    }

    fn downloads(points: Vec<Option<Point>>) -> Vec<Option<u32>> {
        let download = |point: Point| point.download as u32;
        points.into_iter().map(|p| p.map(download)).collect()
    }

    #[test]
    fn the_newest_is_last_and_gaps_are_zeros() {
        let (history, key) = fed(&[5, 0, 0, 7]);
        let second = Duration::from_secs(1);
        let of = downloads(history.of([key].into_iter(), 6, 6 * second));
        assert_eq!(of, [None, None, Some(5), Some(0), Some(0), Some(7)]);
        let both = downloads(history.of([key, key].into_iter(), 1, second));
        assert_eq!(both, [Some(14)]);
        assert_eq!(downloads(history.host(1, second)), [Some(14)]);
        assert_eq!(history.span(), 4 * second);
    }

    #[test]
    fn a_column_of_several_samples_shows_the_largest() {
        let (history, key) = fed(&[1, 9, 2, 3]);
        let wide = downloads(history.of([key].into_iter(), 1, Duration::from_secs(60)));
        assert_eq!(wide, [Some(9)]);
    }

    #[test]
    fn old_samples_and_quiet_processes_go() {
        let mut rates = vec![1; 10];
        rates.extend([0; KEPT]);
        let (history, _) = fed(&rates);
        assert_eq!(history.samples.len(), KEPT);
        assert!(history.processes.is_empty());
    }
}

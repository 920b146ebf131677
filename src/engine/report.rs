//! What a running job tells the other process: progress now and then, figures, results, and the time each phase took.

use persona_core::Result;
use persona_core::metrics::Judgement;
use persona_core::protocol::{Frame, Kind, Metric, Phase, Progress};
use serde::Serialize;
use std::time::{Duration, Instant};

/// While rows arrive, and while epochs run.
pub const SCAN_INTERVAL: Duration = Duration::from_millis(100);
pub const INTERVAL: Duration = Duration::from_millis(200);

type Send<'a> = dyn FnMut(Frame) -> Result<()> + 'a;

pub struct Reporter<'a> {
    send: Box<Send<'a>>,
    last: Option<Instant>,
    phase: Option<(Phase, Instant)>,
    seconds: Vec<(Phase, f64)>,
}

impl<'a> Reporter<'a> {
    pub fn new(send: impl FnMut(Frame) -> Result<()> + 'a) -> Self {
        Reporter { send: Box::new(send), last: None, phase: None, seconds: Vec::new() }
    }

    /// Begins a phase, and says so.
    pub fn enter(&mut self, phase: Phase) -> Result<()> {
        self.count_as(phase);
        self.tell(Progress::of(phase, 0, 0))
    }

    /// From here on time counts as that of another phase, which is not worth telling.
    pub fn count_as(&mut self, phase: Phase) {
        self.leave();
        self.phase = Some((phase, Instant::now()));
    }

    /// Ends the phase, so that its time counts.
    fn leave(&mut self) {
        let Some((phase, since)) = self.phase.take() else { return };
        let spent = since.elapsed().as_secs_f64();
        match self.seconds.iter_mut().find(|(known, _)| *known == phase) {
            Some((_, seconds)) => *seconds += spent,
            None => self.seconds.push((phase, spent)),
        }
    }

    /// Seconds by phase, in the order in which they were entered first.
    pub fn seconds(&mut self) -> Vec<(Phase, f64)> {
        self.leave();
        self.seconds.clone()
    }

    /// Whether so much time has passed since the last progress that the next is due.
    pub fn due(&self, interval: Duration) -> bool {
        self.last.is_none_or(|last| last.elapsed() >= interval)
    }

    pub fn tell(&mut self, progress: Progress) -> Result<()> {
        self.last = Some(Instant::now());
        self.json(Kind::Progress, &progress)
    }

    pub fn metrics(&mut self, metrics: &[Metric]) -> Result<()> {
        self.json(Kind::Metrics, &metrics)
    }

    /// Sends judged cases, if a version is to keep them.
    pub fn judgement(&mut self, judgement: &Judgement) -> Result<()> {
        self.frame(Frame::new(Kind::Judgement, judgement.to_bytes()?))
    }

    pub fn json<T: Serialize>(&mut self, kind: Kind, value: &T) -> Result<()> {
        self.frame(Frame::json(kind, value)?)
    }

    pub fn frame(&mut self, frame: Frame) -> Result<()> {
        (self.send)(frame)
    }
}

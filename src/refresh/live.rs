//! What a live profile takes in, a round after the other. A round is the news up to a snapshot, in chunks of which each is a
//! transaction; the last of them moves the profile's position there. A round that is not ended is begun anew: what it has
//! written is written again, and nothing is lost. Between chunks the profile is anybody's: where somebody else has moved its
//! position meanwhile, or another version is live, the rest of the round is forgotten and asked for anew.
//!
//! A chunk that fails is halved until one entity is left. If others can be scored it is this one's fault: it is set aside.
//! What an engine has ended over is scored by engines of its own from then on, as others ask the resident one too.

use super::going_on::Parted;
use super::verify::draw;
use super::{Target, changed, refresh_all};
use crate::catalog::aside;
use crate::catalog::sources::Source;
use crate::catalog::tracking::{self, Position, Track};
use crate::error::{Code, Error, Failure, Result, ended_an_engine};
use crate::events::Entities;
use crate::pg::clock;
use crate::pg::procedure::Phases;
use crate::pg::session_lock::SessionLock;
use crate::pg::types;
use crate::profile::oid_of;
use crate::tracking::{Changed, News, Sign, Since};
use crate::worker::progress::Reporter;
use pgrx::pg_sys::Oid;
use pgrx::spi::quote_literal;

/// Entities of a chunk: as many as are scored and written in a moment, so that nobody waits long for their turn.
const CHUNK: usize = 500;

/// Entities that are scored to see whether any can be.
const WITNESSES: i32 = 3;

/// A live profile, as its worker keeps it up to date.
pub struct Live {
    table: Oid,
    round: Option<Round>,
    /// Whether what fails now may be the fault of an entity.
    at_work: bool,
    /// Where a watermark column tells what is new.
    sign: Option<Sign>,
}

/// News up to a snapshot.
struct Round {
    news: News,
    /// By the server's clock, in microseconds since 1970.
    begun: i64,
    version: i32,
    /// The profile's position before.
    since: Option<String>,
    /// What is left, the next at the end. One without entities ends a round that has nothing else left.
    chunks: Vec<Chunk>,
    /// Entities that are set aside and have changed.
    changed_aside: Vec<String>,
}

#[derive(Clone)]
struct Chunk {
    entities: Entities,
    /// It has one entity, which is set aside.
    again: bool,
    /// It is scored by an engine of its own.
    apart: bool,
}

/// An entity that failed without others.
pub struct Suspect {
    pub entity: String,
    /// It is set aside, and was tried again.
    pub again: bool,
    apart: bool,
}

impl Chunk {
    fn of(entities: Entities) -> Chunk {
        Chunk { entities, again: false, apart: false }
    }
}

/// How far a step has come.
pub enum Step {
    /// There is more of the round.
    More,
    /// Everything is taken in that had been committed at this time: microseconds since 1970, by the server's clock.
    Fresh(i64),
}

impl Live {
    pub fn open(object: &str) -> Result<Live> {
        Ok(Live { table: oid_of(object)?, round: None, at_work: false, sign: None })
    }

    /// Whether there is anything to take in. Asked often, so it must cost little, and no transaction id.
    pub fn is_due(&mut self) -> Result<bool> {
        // That its table was dropped is found, and said, by taking something in.
        if self.round.is_some() || !types::relation_exists(self.table) {
            return Ok(true);
        }
        let Some(due) = tracking::due(self.table)? else { return Ok(false) };
        match (due.track, &mut self.sign) {
            (Track::Trigger, _) => Ok(due.now),
            (Track::Column(_), Some(sign)) => Ok(sign.has_changed()? || due.now),
            // What it needs to know is asked when a round is opened.
            (Track::Column(_), None) | (Track::None, _) => Ok(true),
        }
    }

    /// Takes in a chunk, or everything.
    pub fn take(&mut self, phases: &Phases, reporter: &mut Reporter) -> Result<Step> {
        self.at_work = false;
        let _lock = SessionLock::take(self.table, phases.is_atomic());
        let target = Target::open(self.table)?;
        let round = match self.round.take() {
            Some(round) if round.holds(&target)? => round,
            _ => {
                self.sign = sign_of(&target, self.sign.take())?;
                Round::open(&target)?
            }
        };
        let round = self.round.insert(round);
        let none = Since::default();
        let Some(Chunk { entities, again, apart }) = round.chunks.last() else {
            let aside = aside::all_of(self.table)?;
            let aside = (!aside.is_empty()).then(|| Ok::<_, Error>(Entities::none(target.key()?)?.of_texts(&aside)));
            let aside = aside.transpose()?;
            // One that fails is begun anew.
            let Some(Round { news, begun, .. }) = self.round.take() else { return Ok(Step::More) };
            refresh_all(target, news, aside.as_ref(), phases, reporter)?;
            return Ok(Step::Fresh(begun));
        };
        self.at_work = entities.len() > 0;
        let ends = round.chunks.len() == 1;
        let since = match &round.news.changed {
            Changed::Entities { since, .. } if !again => since,
            _ => &none,
        };
        let parted = Parted::new(&target, entities, since)?;
        changed::refresh(&target, &parted, !apart, phases, reporter, || {
            if *again {
                aside::forget(self.table, &entities.texts())?;
            }
            if !ends {
                return Ok(());
            }
            if !round.changed_aside.is_empty() {
                aside::hasten(self.table, &round.changed_aside)?;
            }
            round.news.done(&target.profile, &target.source)
        })?;
        round.chunks.pop();
        Ok(if ends { self.end() } else { Step::More })
    }

    fn end(&mut self) -> Step {
        match self.round.take() {
            Some(round) => Step::Fresh(round.begun),
            None => Step::More,
        }
    }

    /// Whether what failed may be the fault of an entity.
    pub fn was_at_work(&self) -> bool {
        self.at_work && self.round.as_ref().is_some_and(|round| !round.chunks.is_empty())
    }

    /// Halves the chunk that failed. If it has one entity, gives that. `apart`: engines of their own are to score it from now on.
    pub fn halve(&mut self, apart: bool) -> Option<Suspect> {
        let chunks = &mut self.round.as_mut()?.chunks;
        let failed = chunks.pop()?;
        let (n, again, apart) = (failed.entities.len(), failed.again, failed.apart || apart);
        let halves = failed.entities.chunks(n.div_ceil(2).max(1)).into_iter();
        chunks.extend(halves.map(|entities| Chunk { entities, again, apart }));
        if n > 1 {
            return None;
        }
        let entity = failed.entities.texts().pop()?;
        Some(Suspect { entity, again, apart })
    }

    /// Entities that are in the profile, other than the one that failed and those that are set aside.
    pub fn witnesses(&self, failed: &Suspect) -> Result<Vec<Entities>> {
        let target = Target::open(self.table)?;
        let aside = aside::all_of(self.table)?;
        let mut others = draw(&target, WITNESSES + 1 + aside.len() as i32)?;
        let suspects: Vec<String> = aside.into_iter().chain([failed.entity.clone()]).collect();
        others.leave_out(&others.of_texts(&suspects));
        let mut others = others.chunks(1);
        others.truncate(WITNESSES as usize);
        Ok(others)
    }

    /// Scores another entity as the one that failed was, and writes nothing.
    pub fn try_out(&self, other: &Entities, failed: &Suspect, reporter: &mut Reporter) -> Result<()> {
        let target = Target::open(self.table)?;
        let mut engine = changed::start(&target, other, None, !failed.apart, reporter)?;
        changed::stage(&target, &mut engine, reporter).map(drop)
    }

    /// Sets the entity of the chunk that failed aside.
    pub fn set_aside(&mut self, suspect: &Suspect, failure: &Failure) -> Result<()> {
        aside::put(self.table, &suspect.entity, failure)?;
        let Some(round) = &mut self.round else { return Ok(()) };
        if let Some(failed) = round.chunks.pop()
            && round.chunks.is_empty()
        {
            round.chunks.push(Chunk::of(failed.entities.of_texts(&[])));
        }
        Ok(())
    }
}

impl Round {
    fn open(target: &Target) -> Result<Round> {
        let Target { profile, source, version, .. } = target;
        let begun = clock::of_server();
        let rows = (profile.version == Some(version.number)).then(|| target.relation.rows()).transpose()?;
        let since = Position::of(profile.profile)?.map(|position| position.snapshot);
        let mut news = News::of(profile, source, rows, false)?;
        let (mut chunks, mut changed_aside) = (Vec::new(), Vec::new());
        if let Changed::Entities { entities, since } = &mut news.changed {
            let aside = entities.of_texts(&aside::all_of(profile.profile)?);
            since.forget(&aside);
            changed_aside = entities.leave_out(&aside).texts();
            // Those that are likely to fail come last.
            chunks.extend(aside::due(profile.profile)?.into_iter().map(|(entity, sqlstate)| Chunk {
                entities: entities.of_texts(&[entity]),
                again: true,
                apart: ended_an_engine(&sqlstate),
            }));
            chunks.extend(entities.chunks(CHUNK).into_iter().map(Chunk::of));
            if chunks.is_empty() {
                chunks.push(Chunk::of(entities.of_texts(&[])));
            }
        }
        Ok(Round { news, begun, version: version.number, since, chunks, changed_aside })
    }

    /// Whether the profile is where it was when the round began.
    fn holds(&self, target: &Target) -> Result<bool> {
        let since = Position::of(target.profile.profile)?.map(|position| position.snapshot);
        Ok(self.version == target.version.number && self.since == since)
    }
}

/// The sign of the watermark column that tells what is new, if one does; the one that is there, where it is the same.
fn sign_of(target: &Target, known: Option<Sign>) -> Result<Option<Sign>> {
    match Track::of(&target.source.name)? {
        Track::None => Err(untracked(&target.source)),
        Track::Trigger => Ok(None),
        Track::Column(column) => {
            let sign = Sign::of(target.profile.profile, &target.source, &column)?;
            Ok(Some(known.filter(|known| known.is_like(&sign)).unwrap_or(sign)))
        }
    }
}

/// Nobody says whose events change.
pub fn untracked(source: &Source) -> Error {
    Error::new(
        Code::NotInPrerequisiteState,
        format!("the changes of source \"{}\" are not tracked, so no profile over it can be live", source.name),
    )
    .hint(format!(
        "SELECT persona.track_changes({}); it is then known whose events change.",
        quote_literal(&source.name)
    ))
}

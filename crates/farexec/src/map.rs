//! Task farming: a function is called with each of many items, by whatever workers a group has, and no result is lost.
//!
//! [`Map`] is an iterator that nothing drives but its user: whoever asks for the next result sends what workers have room for, and
//! waits. So memory is bounded however many items there are. What is told to whom, and what becomes of the items of a worker that
//! died, is [`farm`]'s; `mapper.py` is the far end.

mod farm;
mod pool;

use std::time::Duration;

use farexec_proto::control::ErrorReport;
use farexec_proto::encoding::{Encode, EncodeError};
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::end::{EndReason, RemoteError};
use crate::error::{ExecError, StartError};
use crate::function::Function;
use crate::gateway::Gateway;
use crate::group::Group;
use crate::payload::Payload;
use crate::wait::{Wait, WaitError};
use farm::{Farm, Outcome};
use pool::Pool;

/// The far end of maps and of calls.
pub(crate) const MAPPER: &str = include_str!("mapper.py");

/// How items are worked off.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MapOptions {
    /// Whether results come in the order of their items, or as they are ready.
    pub ordered: bool,
    /// Whether an item is a sequence of arguments, and not the only one.
    pub star: bool,
    /// How often an item is given to another worker after the one that was at it died.
    pub retries: u32,
    /// How long one item may take, before its worker is replaced.
    pub timeout: Option<Duration>,
    /// How many items a worker has at a time, so that it is never idle; by default as many as it does in some milliseconds, and two at
    /// least.
    pub prefetch: Option<usize>,
    /// Whether a worker that died is replaced by one from the same spec.
    pub replace: bool,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self { ordered: true, star: false, retries: 3, timeout: None, prefetch: None, replace: true }
    }
}

/// Why there is no result for an item.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function raised.
    #[error(transparent)]
    Raised(RemoteError),
    /// Every worker that was at the item died.
    #[error("{workers} workers died at it; the last: {reason}")]
    WorkersDied {
        /// How many.
        workers: u32,
        /// What ended the last one.
        reason: EndReason,
    },
    /// It took longer than it may.
    #[error("it took longer than {0:?}; its worker was ended")]
    TimedOut(Duration),
    /// The worker's answer cannot be read.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// Why no further results come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The function cannot be used at a worker: its text has an error, or it cannot be imported.
    #[error("the function cannot be used: {0}")]
    Function(RemoteError),
    /// No worker is left, and none could be started.
    #[error("no worker is left to do it{}", because(.0))]
    NoWorkers(Option<StartError>),
    /// The group refused.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// An item cannot be sent.
    #[error("item {index} cannot be sent: {source}")]
    Item {
        /// Its position.
        index: u64,
        /// What is wrong with it.
        source: EncodeError,
    },
    /// The time was up, or the caller was called away. Nothing is lost: ask again.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

fn because(error: &Option<StartError>) -> String {
    error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
}

/// Items on their way through the workers of a group. Dropping it leaves the workers to others, as soon as they are done with what they
/// are at.
pub struct Map {
    farm: Farm,
    pool: Pool,
    is_over: bool,
}

/// A result, and the position of its item.
#[derive(Debug)]
pub struct MapResult {
    /// The position of the item, from 0.
    pub index: u64,
    /// The answer of a worker: a tuple with the result, or a dict that describes an error; or why there is none.
    pub answer: Result<Payload, TaskError>,
}

impl Map {
    /// Has the workers of a group call `function`, from now on.
    ///
    /// # Errors
    /// [`MapError::NoWorkers`] if the group has no gateways.
    pub fn new(group: &Group, function: &Function, options: MapOptions) -> Result<Self, MapError> {
        let mut farm = Farm::new(options.clone());
        let pool = Pool::new(group, function, &options, &mut farm)?;
        Ok(Self { farm, pool, is_over: false })
    }

    /// How many items could be put in now without any of them having to wait for long.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.is_over { 0 } else { self.farm.room() }
    }

    /// Puts in an item.
    ///
    /// # Errors
    /// [`MapError::Item`]; it is not put in then.
    pub fn put(&mut self, item: &impl Encode) -> Result<(), MapError> {
        self.farm.put(item)
    }

    /// Says that no more items come.
    pub fn no_more(&mut self) {
        self.is_over = true;
    }

    /// The next result that is there.
    pub fn pop(&mut self) -> Option<MapResult> {
        let (index, outcome) = self.farm.pop()?;
        let answer = match outcome {
            Outcome::Answer(payload) => Ok(payload),
            Outcome::Error(error) => Err(error),
        };
        Some(MapResult { index, answer })
    }

    /// Whether all that was put in has come out, and no more comes.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_over && self.farm.is_idle()
    }

    /// Gives workers what they have room for.
    pub fn dispatch(&mut self) {
        self.pool.dispatch(&mut self.farm);
    }

    /// Waits until something has happened that may bring a result.
    ///
    /// # Errors
    /// [`MapError`]; after any but [`MapError::Wait`] no more results come.
    pub fn wait(&mut self, wait: &Wait<'_>) -> Result<(), MapError> {
        self.pool.wait(&mut self.farm, wait)
    }

    /// Gateways that took the place of others since this was asked for last: the id of the one that died, and the new one.
    pub fn replacements(&mut self) -> Vec<(String, Gateway)> {
        self.pool.take_replacements()
    }
}

impl MapResult {
    /// The result, as any type that serde can read.
    ///
    /// # Errors
    /// [`TaskError`]
    pub fn decode<T: DeserializeOwned>(self) -> Result<T, TaskError> {
        match self.answer?.decode::<Answer<T>>() {
            Ok(Answer::Result(result)) => Ok(result),
            Ok(Answer::Error(report)) => Err(TaskError::Raised(RemoteError::new(report))),
            Err(error) => Err(TaskError::Unreadable(error.to_string())),
        }
    }
}

/// What `mapper.py` answers: a tuple with the result, or a dict that describes an error.
pub(crate) enum Answer<T> {
    Result(T),
    Error(ErrorReport),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Answer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Answer<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a tuple with a result, or a dict that describes an error")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let result = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Answer::Result(result))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                ErrorReport::deserialize(de::value::MapAccessDeserializer::new(map)).map(Answer::Error)
            }
        }

        deserializer.deserialize_any(Either(std::marker::PhantomData))
    }
}

impl Group {
    /// Has the workers of this group call a function with each item, and gives the results: in the order of the items, or as they come.
    ///
    /// Items are taken as workers have room for them, so there may be any number. An item whose worker dies is given to another one,
    /// and its result comes once. Workers that die are replaced; gateways that are made meanwhile join in.
    ///
    /// ```
    /// use farexec::{Function, Group, MapOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// group.make_gateways(["popen"; 2])?;
    /// let function: Function = "math:factorial".parse()?;
    /// let results: Vec<u64> = group.map(&function, 0..5, MapOptions::default())?.collect::<Result<_, _>>()?;
    /// assert_eq!(results, [1, 1, 2, 6, 24]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MapError::NoWorkers`] if the group has no gateways.
    pub fn map<I, T>(
        &self,
        function: &Function,
        items: I,
        options: MapOptions,
    ) -> Result<Results<I::IntoIter, T>, MapError>
    where
        I: IntoIterator<Item: Serialize>,
        T: DeserializeOwned,
    {
        let map = Map::new(self, function, options)?;
        Ok(Results { map, items: items.into_iter(), result: std::marker::PhantomData })
    }
}

/// The results of [`Group::map`].
pub struct Results<I, T> {
    map: Map,
    items: I,
    result: std::marker::PhantomData<fn() -> T>,
}

/// Why there is no result, or no further one.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// There is none for this item; others follow.
    #[error("no result for item {index}: {error}")]
    Task {
        /// The position of the item.
        index: u64,
        /// Why.
        error: TaskError,
    },
    /// No more results come.
    #[error(transparent)]
    Map(#[from] MapError),
}

impl<I: Iterator<Item: Serialize>, T: DeserializeOwned> Results<I, T> {
    pub(crate) fn advance(&mut self, wait: &Wait<'_>) -> Result<Option<T>, ResultError> {
        loop {
            if let Some(result) = self.map.pop() {
                let index = result.index;
                return result.decode().map(Some).map_err(|error| ResultError::Task { index, error });
            }
            for _ in 0..self.map.room() {
                match self.items.next() {
                    Some(item) => self.map.put(&farexec_proto::serde::AsItem(&item))?,
                    None => {
                        self.map.no_more();
                        break;
                    }
                }
            }
            if self.map.is_done() {
                return Ok(None);
            }
            self.map.dispatch();
            self.map.wait(wait)?;
        }
    }
}

impl<I: Iterator<Item: Serialize>, T: DeserializeOwned> Iterator for Results<I, T> {
    type Item = Result<T, ResultError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(&Wait::forever()).transpose()
    }
}

//! Task farming: a function is called with each of many items, by whatever workers a group has, and no result is lost.
//!
//! [`Map`] is an iterator that nothing drives but its user: whoever asks for the next result sends what workers have room for, and
//! waits. So memory is bounded however many items there are. What is told to whom, and what becomes of the items of a worker that
//! died, is [`farm`]'s; `mapper.py` is the far end.

mod farm;
mod identity;
mod journal;
mod pool;
mod progress;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use farexec_proto::control::ErrorReport;
use farexec_proto::encoding::{Encode, EncodeError};
use farexec_proto::{Encoding, Value};
use serde::de::{self, DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::end::{EndReason, RemoteError};
use crate::error::{ExecError, StartError};
use crate::function::Function;
use crate::gateway::Gateway;
use crate::group::Group;
use crate::limits::MAP_PROGRESS;
use crate::payload::Payload;
use crate::wait::{Wait, WaitError};
use farm::{Farm, Outcome};
use journal::Journal;
pub use journal::JournalError;
use pool::Pool;
pub use progress::{Progress, WorkerProgress};

/// The far end of maps and of calls.
pub(crate) const MAPPER: &str = include_str!("mapper.py");

/// How items are worked off.
///
/// ```
/// use farexec::{Function, MapOptions};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateways(["popen"; 2])?;
/// let mut options = MapOptions::default();
/// options.ordered = false; // results as they are ready
/// options.star = true; // two arguments each
/// options.timeout = Some(Duration::from_secs(60));
/// let power: Function = "operator:pow".parse()?;
/// let mut powers = group.map(&power, [(2, 3), (3, 2)], options)?.collect::<Result<Vec<u32>, _>>()?;
/// powers.sort();
/// assert_eq!(powers, [8, 9]);
/// # Ok(())
/// # }
/// ```
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
    /// How many items may be under way at most, from being taken until their result is: those that workers have, and those whose
    /// results nobody took, for instance because an earlier one is still missing. 65,536 if not given.
    pub max_pending: Option<usize>,
    /// Whether a worker that died is replaced by one from the same spec.
    pub replace: bool,
    /// A function that every worker calls before anything else, and a tuple of its arguments. If it raises, no results come.
    pub initializer: Option<(Function, Value)>,
    /// A file that keeps the results: a run of the same function over the same items takes up what another run has left in it. Items
    /// that failed are tried again.
    pub journal: Option<PathBuf>,
    /// Whether a worker has an item ahead even if items take long: it is never idle then, and an item waits that another worker might
    /// be free for.
    pub(crate) has_ahead: bool,
}

impl Default for MapOptions {
    fn default() -> Self {
        Self {
            ordered: true,
            star: false,
            retries: 3,
            timeout: None,
            prefetch: None,
            max_pending: None,
            replace: true,
            initializer: None,
            journal: None,
            has_ahead: true,
        }
    }
}

/// Why there is no result for an item.
///
/// ```
/// use farexec::{Function, MapOptions, ResultError, TaskError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateway("popen")?;
/// let inverse = Function::text("def inverse(n): return 1 / n", "inverse");
/// let mut results = group.map::<_, f64>(&inverse, [2, 0, 4], MapOptions::default())?;
/// assert_eq!(results.next().transpose()?, Some(0.5));
/// let Some(Err(ResultError::Task { index: 1, error: TaskError::Raised(error) })) = results.next() else { panic!() };
/// assert_eq!(error.type_name(), "ZeroDivisionError");
/// assert_eq!(results.next().transpose()?, Some(0.25)); // the others go on
/// # Ok(())
/// # }
/// ```
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
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The time was up, or the caller was called away. Nothing is lost: ask again.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

fn because(error: &Option<StartError>) -> String {
    error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
}

/// Items on their way through the workers of a group. Dropping it leaves the workers to others, as soon as they are done with what they
/// are at.
///
/// ```
/// use farexec::{Function, Map, MapOptions, Value, Wait};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateways(["popen"; 2])?;
/// let mut map = Map::new(&group, &"math:factorial".parse::<Function>()?, MapOptions::default())?;
/// let mut numbers = (0..5).peekable();
/// let mut sum = 0;
/// while !map.is_done() {
///     while map.room() > 0 && numbers.peek().is_some() {
///         map.put(&Value::from(numbers.next().unwrap_or_default()))?;
///     }
///     if numbers.peek().is_none() {
///         map.no_more();
///     }
///     map.dispatch();
///     map.wait(&Wait::forever())?;
///     while let Some(result) = map.pop() {
///         sum += result.decode::<u64>()?;
///     }
/// }
/// assert_eq!(sum, 1 + 1 + 2 + 6 + 24);
/// # Ok(())
/// # }
/// ```
pub struct Map {
    farm: Farm,
    pool: Pool,
    journal: Option<Journal>,
    is_over: bool,
    total: Option<u64>,
    /// What was told last, and when, if anybody asks.
    told: Option<(Instant, Counts)>,
}

/// How many items are done, have failed, are with workers.
type Counts = (u64, u64, u64);

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
    /// [`MapError::NoWorkers`] if the group has no gateways; [`MapError::Journal`].
    pub fn new(group: &Group, function: &Function, options: MapOptions) -> Result<Self, MapError> {
        let run = || identity::of_run(function, &options);
        let journal = options.journal.as_ref().map(|path| Journal::open(path, &run())).transpose()?;
        Self::make(group, Some(function), journal, options)
    }

    /// Has the workers of a group call what each item says, from now on: a tuple of a function, a sequence of arguments, and a dict of
    /// those with names. The function is a dict of `module` and `call`, or of `source`, `file`, `line` and `call`, as the fields of
    /// [`Function`] are. There is no journal. No call waits behind a long one.
    ///
    /// # Errors
    /// [`MapError::NoWorkers`] if the group has no gateways.
    pub fn of_calls(group: &Group, options: MapOptions) -> Result<Self, MapError> {
        Self::make(group, None, None, MapOptions { has_ahead: false, ..options })
    }

    fn make(
        group: &Group,
        function: Option<&Function>,
        journal: Option<Journal>,
        options: MapOptions,
    ) -> Result<Self, MapError> {
        let mut farm = Farm::new(options.clone());
        let pool = Pool::new(group, function, &options, &mut farm)?;
        Ok(Self { farm, pool, journal, is_over: false, total: None, told: None })
    }

    /// How many items could be put in now without any of them having to wait for long.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.is_over { 0 } else { self.farm.room() }
    }

    /// Puts in an item.
    ///
    /// # Errors
    /// [`MapError::Item`]; it is not put in then. [`MapError::Journal`], if the journal has the result of another one.
    pub fn put(&mut self, item: &impl Encode) -> Result<(), MapError> {
        let task = self.farm.task(item)?;
        match self.journal.as_ref().map(|journal| journal.find(&task)).transpose()?.flatten() {
            Some(payload) => self.farm.put_done(&task, payload),
            None => self.farm.put(task),
        }
        Ok(())
    }

    /// Says how many items there are, for those who watch the progress.
    pub fn expect(&mut self, total: Option<u64>) {
        self.total = total;
    }

    /// Says that no more items come.
    pub fn no_more(&mut self) {
        self.is_over = true;
    }

    /// The next result that is there.
    pub fn pop(&mut self) -> Option<MapResult> {
        // What was given and then forgotten would be given twice.
        if self.journal.as_ref().is_some_and(Journal::has_unwritten) {
            return None;
        }
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

    /// Waits until something has happened that may bring a result, or that is to be told ([`news`](Self::news)).
    ///
    /// # Errors
    /// [`MapError`]; after any but [`MapError::Wait`] no more results come, or, if it is a [`MapError::Journal`], none until that is
    /// mended.
    pub fn wait(&mut self, wait: &Wait<'_>) -> Result<(), MapError> {
        self.journal.as_mut().map_or(Ok(()), Journal::write)?;
        if self.farm.has_result() {
            return Ok(());
        }
        let due = self.told.filter(|told| told.1 != self.counts()).map(|told| told.0 + MAP_PROGRESS);
        let limited = due.map_or(*wait, |due| wait.until(due));
        match self.pool.wait(&mut self.farm, &mut self.journal, &limited) {
            Err(MapError::Wait(WaitError::Timeout)) if due.is_some_and(|due| due <= Instant::now()) => Ok(()),
            result => result,
        }
    }

    /// What gets whoever waits out of [`wait`](Self::wait), from any thread: because there are new items, for instance.
    pub fn nudge(&self) -> impl Fn() + Send + Sync + Clone + use<> {
        self.pool.nudge()
    }

    /// How far it is now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (done, failed, running) = self.counts();
        let total = if self.is_done() { Some(done + failed) } else { self.total };
        Progress { done, failed, running, total, workers: self.pool.progress(&self.farm, self.is_done()) }
    }

    /// How far it is, if that has changed, and was not told a moment ago: ten times a second at most, and in the end.
    pub fn news(&mut self) -> Option<Progress> {
        let counts = self.counts();
        let (when, before) = *self.told.get_or_insert_with(|| (Instant::now(), Counts::default()));
        if counts == before || (when.elapsed() < MAP_PROGRESS && !self.is_done()) {
            return None;
        }
        self.told = Some((Instant::now(), counts));
        Some(self.progress())
    }

    fn counts(&self) -> Counts {
        let (tally, running) = self.farm.tally();
        (tally.done, tally.failed, running)
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

/// Whether an answer is a result and no error: what both end with is the opcode that makes a tuple or a dict.
pub(crate) fn is_result(answer: &Payload) -> bool {
    match (answer.encoding(), answer.bytes()) {
        (Encoding::Message, [.., made, _]) => !matches!(made, b'}' | b's' | b'u'),
        (Encoding::Dump, [.., made, _]) => !matches!(made, b'J' | b'P'),
        _ => false,
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
    /// [`MapError::NoWorkers`] if the group has no gateways; [`MapError::Journal`].
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
        let mut map = Map::new(self, function, options)?;
        let items = items.into_iter();
        if let (least, Some(most)) = items.size_hint()
            && least == most
        {
            map.expect(Some(most as u64));
        }
        Ok(Results { map, items, watcher: None, result: std::marker::PhantomData })
    }
}

/// The results of [`Group::map`].
///
/// ```
/// use farexec::{Function, MapOptions, ResultError};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// group.make_gateways(["popen"; 2])?;
/// let number = Function::text("def number(text): return int(text)", "number");
/// let mut sum = 0;
/// for result in group.map::<_, i64>(&number, ["1", "two", "3"], MapOptions::default())? {
///     match result {
///         Ok(number) => sum += number,
///         Err(ResultError::Task { index, error }) => println!("{index}: {error}"), // the others go on
///         Err(ResultError::Map(error)) => return Err(error.into()),
///     }
/// }
/// assert_eq!(sum, 4);
/// # Ok(())
/// # }
/// ```
pub struct Results<I, T> {
    map: Map,
    items: I,
    watcher: Option<Watcher>,
    result: std::marker::PhantomData<fn() -> T>,
}

type Watcher = Box<dyn FnMut(&Progress) + Send>;

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
    /// Has a function called with the progress, whenever a result is asked for and there is news: ten times a second at most, and in
    /// the end.
    ///
    /// ```
    /// use farexec::{Function, Group, MapOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let group = Group::new();
    /// group.make_gateways(["popen"; 2])?;
    /// let function: Function = "math:factorial".parse()?;
    /// let (told, progress) = std::sync::mpsc::channel();
    /// let results = group.map(&function, 0..5, MapOptions::default())?;
    /// let results = results.watched(move |progress| drop(told.send(progress.clone())));
    /// let results: Vec<u64> = results.collect::<Result<_, _>>()?;
    /// let last = progress.iter().last().ok_or("there is always a last one")?;
    /// assert_eq!((last.done, last.failed, last.total), (5, 0, Some(5)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watched(mut self, watcher: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.watcher = Some(Box::new(watcher));
        self
    }

    /// How far it is now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.map.progress()
    }

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
            if let Some(watcher) = &mut self.watcher
                && let Some(progress) = self.map.news()
            {
                watcher(&progress);
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

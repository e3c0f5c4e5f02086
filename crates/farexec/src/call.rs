//! Calling a function at a worker and having its result.
//!
//! A call goes over a *lane*: a channel to code at the worker (`answer` in `mapper.py`) that calls what it is told to, one call after the
//! other. A gateway keeps its lanes, so that a call costs a round trip and starts nothing; calls at the same time get a lane each. A
//! function is sent once over each lane, and known by its number then.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use farexec_proto::Value;
use farexec_proto::encoding::{DecodeError, Emit, Encode, EncodeError};
use farexec_proto::serde::AsItem;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::{Channel, ReceiveError, SendError};
use crate::end::{ChannelEnd, EndReason, RemoteError};
use crate::error::ExecError;
use crate::function::{Function, FunctionError};
use crate::gateway::Gateway;
use crate::limits::LANE_FUNCTIONS;
use crate::map::{Answer, MAPPER, is_result};
use crate::payload::Payload;
use crate::source::Source;
use crate::spec::ExecModel;
use crate::wait::{Wait, WaitError};
use crate::work::{Strand, Task};

/// Why a call brought no result.
///
/// ```
/// use farexec::CallError;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let Err(CallError::Raised(error)) = gateway.call::<f64>("math:sqrt", &(-1,)) else { panic!() };
/// assert_eq!((error.type_name(), error.message()), ("ValueError", "math domain error"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// What was to be called is no name of a function.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// An argument cannot be sent.
    #[error("the arguments cannot be sent: {0}")]
    Arguments(SendError),
    /// The function raised, or cannot be used at the worker.
    #[error(transparent)]
    Raised(RemoteError),
    /// The gateway had ended before.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The worker ended before it had answered; whether the function was called is not known.
    #[error("no result: {0}")]
    Ended(EndReason),
    /// The worker goes on, and closed the call without an answer.
    #[error("no result: the worker gave up what answers calls")]
    Unanswered,
    /// The result is not what was asked for.
    #[error("the result is something else: {0}")]
    Result(#[from] DecodeError),
    /// The time was up, or the caller was called away.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// A function at the worker of a gateway.
///
/// ```
/// use farexec::{Function, Group};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let double = gateway.function(Function::text("def double(x): return 2 * x", "double"));
/// assert_eq!(double.call::<i64>(&(21,))?, 42);
/// assert_eq!(double.call::<String>(&("ab",))?, "abab");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RemoteFunction {
    gateway: Gateway,
    function: Arc<Function>,
    number: i64,
}

impl Gateway {
    /// Calls a function at the worker with a tuple of arguments, and waits for its result.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// let path: String = gateway.call("os.path:join", &("a", "b"))?;
    /// assert_eq!(path, "a/b");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CallError`]
    pub fn call<T: DeserializeOwned>(
        &self,
        function: impl TryInto<Function, Error: Into<FunctionError>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        self.function(function.try_into().map_err(Into::into)?).call(arguments)
    }

    /// A function to call at the worker, more than once.
    #[must_use]
    pub fn function(&self, function: Function) -> RemoteFunction {
        static HASHER: OnceLock<RandomState> = OnceLock::new();
        // With 64 bits that nobody can foresee, no two functions of a program have the same.
        let number = HASHER.get_or_init(RandomState::new).hash_one(&function).cast_signed();
        RemoteFunction { gateway: self.clone(), function: Arc::new(function), number }
    }
}

impl RemoteFunction {
    /// Calls it with a tuple of arguments, and waits for the result.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn call<T: DeserializeOwned>(&self, arguments: &(impl Serialize + ?Sized)) -> Result<T, CallError> {
        let mut call = self.start(&AsItem(arguments), None::<&Value>)?;
        decode(&call.wait(&Wait::forever())?)
    }

    /// Begins a call: with a list or tuple of arguments, and perhaps a dict of those with names, of any object model.
    ///
    /// # Errors
    /// [`CallError`]; nothing is called then.
    pub fn start(&self, arguments: &impl Encode, keywords: Option<&impl Encode>) -> Result<Call, CallError> {
        let lanes = &self.gateway.link().lanes;
        let mut lane = match lanes.0.lock().pop() {
            Some(lane) => lane,
            None => Lane::open(&self.gateway)?,
        };
        if lane.known.insert(self.number) {
            let definition = (self.number, self.function.to_value());
            lane.send(&Value::Tuple(vec![definition.0.into(), definition.1]))?;
        }
        let number = self.number;
        let given = lane.strand.as_ref().map(|_| Instant::now());
        match lane.send(&Request { number, arguments, keywords }) {
            Ok(()) => {
                if let (Some(strand), Some(given)) = (&mut lane.strand, given) {
                    strand.give(Task::Call(self.function.name().to_owned()), given);
                }
                Ok(Call { lane: Some(lane) })
            }
            Err(error) => {
                if matches!(error, CallError::Arguments(_)) {
                    lanes.keep(lane);
                }
                Err(error)
            }
        }
    }
}

/// The result that is in an answer.
pub(crate) fn decode<T: DeserializeOwned>(answer: &Payload) -> Result<T, CallError> {
    match answer.decode()? {
        Answer::Result(result) => Ok(result),
        Answer::Error(report) => Err(CallError::Raised(RemoteError::new(report))),
    }
}

/// A call under way. If it is dropped before it has its answer, the worker goes on with it, and the answer is dropped as well.
///
/// ```
/// use farexec::{Function, Value, Wait};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let group = farexec::Group::new();
/// let gateway = group.make_gateway("popen")?;
/// let round = gateway.function("builtins:round".parse::<Function>()?);
/// let keywords = Value::Dict(vec![("ndigits".into(), 1.into())]);
/// let mut call = round.start(&Value::Tuple(vec![Value::from(2.46)]), Some(&keywords))?;
/// // Something else, and then:
/// let (rounded,): (f64,) = call.wait(&Wait::forever())?.decode()?;
/// assert_eq!(rounded, 2.5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Call {
    /// None once it has been answered.
    lane: Option<Lane>,
}

impl Call {
    /// Waits for the answer: a tuple with the result, or a dict that describes the exception, as a CLOSE_ERROR does.
    ///
    /// # Errors
    /// [`CallError`]; after any but [`CallError::Wait`], and after the answer, there is nothing to wait for: [`WaitError::Interrupted`].
    pub fn wait(&mut self, wait: &Wait<'_>) -> Result<Payload, CallError> {
        let received = self.channel()?.receive_payload(wait);
        self.received(received)
    }

    /// Where the answer arrives.
    pub(crate) fn channel(&self) -> Result<Channel, CallError> {
        let lane = self.lane.as_ref().ok_or(WaitError::Interrupted)?;
        Ok(lane.channel.clone())
    }

    /// What came there; it is the end of the call, unless it is that nothing came.
    pub(crate) fn received(&mut self, received: Result<Payload, ReceiveError>) -> Result<Payload, CallError> {
        if let Err(ReceiveError::Wait(error)) = received {
            return Err(error.into());
        }
        let mut lane = self.lane.take().ok_or(WaitError::Interrupted)?;
        match received {
            Ok(payload) => {
                if let Some(strand) = &mut lane.strand {
                    strand.answered(is_result(&payload), Instant::now());
                }
                let gateway = lane.channel.gateway().clone();
                gateway.link().lanes.keep(lane);
                Ok(payload)
            }
            Err(ReceiveError::Remote(error) | ReceiveError::End(ChannelEnd::Error(error))) => {
                Err(CallError::Raised(error))
            }
            Err(ReceiveError::End(ChannelEnd::Gateway(reason))) => Err(CallError::Ended(reason)),
            Err(_) => Err(CallError::Unanswered),
        }
    }
}

/// The lanes of a gateway that nobody uses at present. Each keeps its gateway, so these are dropped when that ends.
#[derive(Debug, Default)]
pub(crate) struct Lanes(Mutex<Vec<Lane>>);

impl Lanes {
    fn keep(&self, lane: Lane) {
        let mut lanes = self.0.lock();
        if lane.known.len() <= LANE_FUNCTIONS && lane.channel.gateway().is_alive() {
            lanes.push(lane);
        }
    }

    /// Drops them all, at the end of the gateway.
    pub(crate) fn clear(&self) {
        let lanes = std::mem::take(&mut *self.0.lock());
        drop(lanes);
    }
}

#[derive(Debug)]
struct Lane {
    channel: Channel,
    /// The numbers of the functions that were sent over it.
    known: HashSet<i64>,
    /// The calls over it, if somebody watches.
    strand: Option<Strand>,
}

impl Lane {
    fn open(gateway: &Gateway) -> Result<Self, CallError> {
        let mut source = Source::text(MAPPER).at("<farexec mapper>", 1).call("answer").part("calls");
        if gateway.execmodel() == ExecModel::MainThreadOnly {
            // There the main thread is for one execution at a time, which a lane would be for as long as it is open.
            source = source.beside();
        }
        let channel = gateway.remote_exec(source)?;
        let strand = gateway.link().work().map(|work| Strand::begin(work, "calls"));
        Ok(Self { channel, known: HashSet::new(), strand })
    }

    fn send(&self, item: &impl Encode) -> Result<(), CallError> {
        // What is not taken yet is waited for with the answer.
        self.channel.start_sending(item).map(drop).map_err(|error| match error {
            SendError::Closed { .. } => match self.channel.end() {
                Some(ChannelEnd::Gateway(reason)) => CallError::Exec(ExecError::Ended(reason)),
                Some(ChannelEnd::Error(error)) => CallError::Raised(error),
                _ => CallError::Arguments(error),
            },
            error => CallError::Arguments(error),
        })
    }
}

struct Request<'a, A, K> {
    number: i64,
    arguments: &'a A,
    keywords: Option<&'a K>,
}

impl<A: Encode, K: Encode> Encode for Request<'_, A, K> {
    fn encode<E: Emit>(&self, emit: &mut E) -> Result<(), EncodeError> {
        emit.begin_tuple(3)?;
        emit.int(self.number)?;
        self.arguments.encode(emit)?;
        match self.keywords {
            Some(keywords) => keywords.encode(emit)?,
            None => emit.none()?,
        }
        emit.end_tuple(3)
    }
}

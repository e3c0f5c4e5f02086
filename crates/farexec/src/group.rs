//! Groups: gateways that are made, addressed and ended together.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{ExecError, StartError};
use crate::gateway::{Gateway, Termination};
use crate::interpreter;
use crate::limits::{DROP_TIMEOUT, LAUNCH_END};
use crate::monitor;
use crate::multichannel::MultiChannel;
use crate::output::{self, OutputLine, Outputs};
use crate::source::Source;
use crate::spec::{ExecModel, Spec, StartMode};
use crate::template::Present;
use crate::timeline::{self, Timeline, TraceError};
use crate::transport::{self, Masters, Surroundings};
use crate::wait::{Wait, WaitError};

/// Gateways that are made, addressed and ended together. Clones are handles on the same group; when the last one is
/// dropped, the workers are ended.
///
/// ```
/// use farexec::Group;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let group = Group::new();
/// group.make_gateways(["popen//id=a", "popen//id=b"])?;
/// group.make_gateway("popen")?;
/// assert_eq!(group.gateways().iter().map(|gateway| gateway.id()).collect::<Vec<_>>(), ["a", "b", "gw0"]);
///
/// let a = group.gateway("a").ok_or("there is no a")?;
/// assert_eq!(a.call::<i64>("operator:add", &(2, 3))?, 5);
/// let channels = group.remote_exec("channel.send(channel.gateway.id)")?;
/// assert_eq!(channels.receive_each::<String>()?, ["a-worker", "b-worker", "gw0-worker"]);
/// group.terminate(Duration::from_secs(1))?; // or by dropping the group
/// assert!(group.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Group(Arc<Inner>);

#[derive(Default)]
struct Inner {
    members: Arc<Mutex<Members>>,
    /// Counts what changes about the members.
    changes: AtomicUsize,
    /// Tells that a launch is over.
    launched: Condvar,
    execmodel: Mutex<ExecModel>,
    masters: Masters,
    outputs: Arc<Outputs>,
    timeline: Mutex<Option<Arc<Timeline>>>,
}

#[derive(Default)]
pub(crate) struct Members {
    pub(crate) gateways: Vec<Gateway>,
    /// Ids given to gateways that are starting.
    pub(crate) reserved: Vec<String>,
    /// Gateways whose processes run, and which are no members yet.
    starting: Vec<Gateway>,
    /// How often all gateways were ended: what began to start before that is not to become a member.
    terminations: u64,
    /// What is starting: at each, how often all gateways had been ended when it began.
    launches: Vec<u64>,
    /// How many workers were lost and replaced.
    pub(crate) restarts: u64,
    /// Why the last of those ended that are no members any more.
    pub(crate) last_error: Option<String>,
    next_id: u32,
}

/// What workers that start together have in common.
struct Launch<'a> {
    execmodel: ExecModel,
    began: Instant,
    present: Present,
    wait: Wait<'a>,
}

impl Group {
    /// A group without gateways.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How workers of gateways made from now on execute, unless their spec says otherwise.
    ///
    /// ```
    /// use farexec::ExecModel;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// group.set_execmodel(ExecModel::MainThreadOnly);
    /// let gateway = group.make_gateway("popen")?;
    /// assert_eq!(gateway.execmodel(), ExecModel::MainThreadOnly);
    /// assert_eq!(group.make_gateway("popen//execmodel=thread")?.execmodel(), ExecModel::Thread);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_execmodel(&self, execmodel: ExecModel) {
        *self.0.execmodel.lock() = execmodel;
    }

    /// How workers of gateways made from now on execute.
    #[must_use]
    pub fn execmodel(&self) -> ExecModel {
        *self.0.execmodel.lock()
    }

    /// Has `function` called with each line that a worker prints to an output that its spec forwards (`stdout=forward`,
    /// `stderr=forward`), in the thread that runs all callbacks. Without one, lines are printed here, behind the id of their gateway.
    pub fn set_output(&self, function: impl Fn(OutputLine) + Send + Sync + 'static) {
        self.0.outputs.set(function);
    }

    /// Has what the workers of gateways made from now on do written to a file, as a trace that <https://ui.perfetto.dev> shows: when they
    /// started and ended, and what they did in between. What was in the file before is gone. `FAREXEC_TRACE` asks for the same for all groups of a
    /// program that have no trace of their own. docs/OBSERVING.md has what is in it.
    ///
    /// ```
    /// use farexec::{Function, Group, MapOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("trace.json");
    /// let group = Group::new();
    /// group.set_trace(&path)?;
    /// group.make_gateways(["popen"; 2])?;
    /// let function: Function = "math:factorial".parse()?;
    /// let results: Vec<u64> = group.map(&function, 0..5, MapOptions::default())?.collect::<Result<_, _>>()?;
    /// let trace = std::fs::read_to_string(&path)?;
    /// assert_eq!(trace.lines().filter(|line| line.contains("item")).count(), 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TraceError`] if the file cannot be written. If that happens later, there is a warning in the log, and nothing else.
    pub fn set_trace(&self, path: impl AsRef<Path>) -> Result<(), TraceError> {
        *self.0.timeline.lock() = Some(Timeline::create(path.as_ref())?);
        Ok(())
    }

    fn timeline(&self) -> Result<Option<Arc<Timeline>>, TraceError> {
        let own = self.0.timeline.lock().clone();
        own.map_or_else(timeline::of_program, |own| Ok(Some(own)))
    }

    /// Makes a gateway and waits until its worker answers.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn make_gateway<S: TryInto<Spec, Error: Into<StartError>>>(
        &self,
        spec: S,
    ) -> Result<Gateway, StartError> {
        let mut made = self.make_gateways([spec])?;
        made.pop().ok_or(StartError::Interrupted)
    }

    /// Makes several gateways at once: all workers start at the same time. If one fails, none is left.
    ///
    /// # Errors
    /// [`StartError`] of the first that failed.
    pub fn make_gateways<S: TryInto<Spec, Error: Into<StartError>>>(
        &self,
        specs: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Gateway>, StartError> {
        let specs: Result<Vec<Spec>, StartError> =
            specs.into_iter().map(|spec| spec.try_into().map_err(Into::into)).collect();
        self.start(specs?, &Wait::forever())
    }

    /// As [`make_gateways`](Self::make_gateways), from parsed specs and with a limit to waiting.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(&self, specs: Vec<Spec>, wait: &Wait<'_>) -> Result<Vec<Gateway>, StartError> {
        self.launch(specs, wait, true, self.terminations()).into_iter().collect()
    }

    /// How often all gateways were ended so far.
    pub(crate) fn terminations(&self) -> u64 {
        self.0.members.lock().terminations
    }

    /// Makes a gateway, unless all were ended since it was asked for how often.
    pub(crate) fn start_unless_ended(&self, spec: Spec, terminations: u64) -> Result<Gateway, StartError> {
        let started = self.launch(vec![spec], &Wait::forever(), true, terminations);
        started.into_iter().next().unwrap_or(Err(StartError::Interrupted))
    }

    /// Makes several gateways at once, each on its own: one that fails takes no other along. The results are in the order of the
    /// specs.
    ///
    /// ```
    /// use farexec::{Group, Wait};
    ///
    /// let group = Group::new();
    /// let specs = vec!["popen".parse()?, "popen//python=no-such-python".parse()?];
    /// let started = group.start_each(specs, &Wait::forever());
    /// assert!(started[0].is_ok());
    /// assert!(started[1].as_ref().unwrap_err().to_string().contains("no-such-python"));
    /// assert_eq!(group.len(), 1);
    /// # Ok::<(), farexec::SpecError>(())
    /// ```
    pub fn start_each(&self, specs: Vec<Spec>, wait: &Wait<'_>) -> Vec<Result<Gateway, StartError>> {
        self.launch(specs, wait, false, self.terminations())
    }

    /// Starts workers together. `all`: either all of them are there in the end, or none, and the only result is why. None of them is if
    /// `terminations` is not, or does not stay, how often all gateways of the group were ended.
    fn launch(
        &self,
        specs: Vec<Spec>,
        wait: &Wait<'_>,
        all: bool,
        terminations: u64,
    ) -> Vec<Result<Gateway, StartError>> {
        monitor::join(&self.0.members);
        let launch = Launch {
            execmodel: self.execmodel(),
            began: Instant::now(),
            present: Present::default(),
            wait: wait.blocking(),
        };
        self.let_go();
        let ids = self.reserve_ids(&specs, terminations);
        let taken: Vec<String> = ids.iter().flatten().cloned().collect();
        let mut results: Vec<Result<Gateway, StartError>> = Vec::with_capacity(specs.len());
        let is_off = |results: &[Result<_, _>]| all && results.iter().any(Result::is_err);
        if all && ids.iter().any(Result::is_err) {
            results.extend(ids.into_iter().filter_map(|id| id.err().map(Err)));
        } else {
            transport::prepare(&specs, &self.0.masters);
            for (spec, id) in specs.into_iter().zip(ids) {
                let result = id.and_then(|id| self.start_one(spec, &id, &results, &launch));
                results.push(result.and_then(|gateway| self.keep_starting(gateway, terminations)));
                if is_off(&results) {
                    break;
                }
            }
        }
        for index in 0..results.len() {
            if is_off(&results) {
                break;
            }
            if let Ok(gateway) = &results[index] {
                results[index] = self.finish_start(gateway.clone(), &launch);
            }
        }
        let is_off = is_off(&results);
        let mut members = self.0.members.lock();
        let is_ended = members.terminations != terminations;
        members.reserved.retain(|id| !taken.contains(id));
        members.starting.retain(|gateway| !taken.iter().any(|id| id == gateway.id()));
        if !is_off && !is_ended {
            members.gateways.extend(results.iter().flatten().cloned());
            self.0.changes.fetch_add(1, Ordering::SeqCst);
        }
        drop(members);
        if is_off || is_ended {
            results.iter().flatten().for_each(Gateway::kill);
            results.retain(Result::is_err);
        }
        if is_ended {
            results = taken.iter().map(|_| Err(StartError::Terminated)).collect();
        }
        let mut members = self.0.members.lock();
        if let Some(own) = members.launches.iter().position(|began| *began == terminations) {
            members.launches.swap_remove(own);
        }
        self.0.launched.notify_all();
        results
    }

    /// Keeps a gateway whose process has started where [`terminate_with`](Self::terminate_with) finds it.
    fn keep_starting(&self, gateway: Gateway, terminations: u64) -> Result<Gateway, StartError> {
        let mut members = self.0.members.lock();
        if members.terminations == terminations {
            members.starting.push(gateway.clone());
            return Ok(gateway);
        }
        drop(members);
        gateway.kill();
        Err(StartError::Terminated)
    }

    /// Starts a worker beside those that `started` has, without waiting for its answer.
    fn start_one(
        &self,
        spec: Spec,
        id: &str,
        started: &[Result<Gateway, StartError>],
        launch: &Launch<'_>,
    ) -> Result<Gateway, StartError> {
        let Launch { execmodel, began, present, wait } = launch;
        let text = spec.to_string();
        let relay = |id: &str| match started.iter().flatten().find(|gateway| gateway.id() == id) {
            Some(gateway) => gateway.wait_started(*began, wait).map(|()| gateway.clone()),
            None => self.gateway(id).ok_or_else(|| StartError::NoRelay { spec: text.clone(), id: id.into() }),
        };
        let learn = |command: &interpreter::Command| {
            if let Some(gateway) = started.iter().flatten().find(|gateway| gateway.will_tell(command)) {
                // What became of it is told when its turn comes.
                let _ = gateway.wait_started(*began, wait);
            }
        };
        let surroundings = Surroundings {
            gateway: &relay,
            learn: &learn,
            present,
            masters: &self.0.masters,
            outputs: &self.0.outputs,
            timeline: self.timeline()?,
            wait: *wait,
        };
        Gateway::start(spec, id, *execmodel, &surroundings)
    }

    /// Waits for the answer of a worker, and sees to its output.
    fn finish_start(&self, mut gateway: Gateway, launch: &Launch<'_>) -> Result<Gateway, StartError> {
        let Launch { execmodel, began, wait, .. } = launch;
        if let Err(error) = gateway.wait_started(*began, wait) {
            gateway = self.start_instead(&gateway, *execmodel, error, wait)?;
        }
        if let Err(error) = output::forward(&gateway, &self.0.outputs, wait) {
            gateway.kill();
            return Err(error);
        }
        Ok(gateway)
    }

    /// Starts an interpreter for a worker that a template did not fork.
    fn start_instead(
        &self,
        gateway: &Gateway,
        execmodel: ExecModel,
        error: StartError,
        wait: &Wait<'_>,
    ) -> Result<Gateway, StartError> {
        if !gateway.lost_its_template() {
            return Err(error);
        }
        let mut spec = gateway.spec().clone();
        spec.start = Some(StartMode::Spawn);
        let surroundings = Surroundings {
            gateway: &|id| self.gateway(id).ok_or(StartError::Interrupted),
            learn: &|_| {},
            present: &Present::default(),
            masters: &self.0.masters,
            outputs: &self.0.outputs,
            timeline: self.timeline()?,
            wait: *wait,
        };
        let gateway = Gateway::start(spec, gateway.id(), execmodel, &surroundings)?;
        gateway.wait_started(Instant::now(), wait).map(|()| gateway)
    }

    /// Forgets gateways that have ended because they were asked to. What they hold may be what the next ones need.
    fn let_go(&self) {
        let mut members = self.0.members.lock();
        let is_over = |gateway: &mut Gateway| !gateway.is_alive() && gateway.link().was_asked_to_end();
        let over: Vec<Gateway> = members.gateways.extract_if(.., is_over).collect();
        drop(members);
        drop(over);
    }

    /// The beginning of a launch: names for what is to start.
    fn reserve_ids(&self, specs: &[Spec], terminations: u64) -> Vec<Result<String, StartError>> {
        let mut members = self.0.members.lock();
        members.launches.push(terminations);
        let mut reserve = |spec: &Spec| {
            let id = match &spec.id {
                Some(id) if members.has(id) => return Err(StartError::DuplicateId(id.clone())),
                Some(id) => id.clone(),
                None => members.new_id(),
            };
            members.reserved.push(id.clone());
            Ok(id)
        };
        specs.iter().map(&mut reserve).collect()
    }

    /// A name that no gateway of this group has: `gw0`, `gw1`, and so on.
    #[must_use]
    pub fn allocate_id(&self) -> String {
        self.0.members.lock().new_id()
    }

    /// The gateways, in the order in which they were made.
    #[must_use]
    pub fn gateways(&self) -> Vec<Gateway> {
        self.0.members.lock().gateways.clone()
    }

    /// Differs if gateways were added since it was asked for before.
    pub(crate) fn version(&self) -> usize {
        self.0.changes.load(Ordering::SeqCst)
    }

    /// The gateway of this name.
    #[must_use]
    pub fn gateway(&self, id: &str) -> Option<Gateway> {
        self.0.members.lock().gateways.iter().find(|gateway| gateway.id() == id).cloned()
    }

    /// Takes a gateway out of the group: it is no longer the group's to end.
    pub fn remove(&self, gateway: &Gateway) {
        self.0.members.lock().gateways.retain(|member| member != gateway);
    }

    /// Takes out a gateway that has ended, in whose place another one is to be started.
    pub(crate) fn replace(&self, gateway: &Gateway) {
        self.remove(gateway);
        let mut members = self.0.members.lock();
        members.restarts += 1;
        members.last_error = gateway.end_reason().map(ToString::to_string);
    }

    /// The number of gateways.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.members.lock().gateways.len()
    }

    /// Whether there are no gateways.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Executes the same code at every gateway.
    ///
    /// # Errors
    /// [`ExecError`] of the first gateway that refused; the executions before it are closed.
    pub fn remote_exec(&self, source: impl Into<Source>) -> Result<MultiChannel, ExecError> {
        let source = source.into();
        let request = source.request()?;
        let channels: Result<Vec<_>, _> =
            self.gateways().iter().map(|gateway| gateway.execute(&request)).collect();
        Ok(MultiChannel::new(channels?))
    }

    /// How long workers have to end when nobody says how long: when the group is dropped, or the program ends. A second, or the longest
    /// `grace=` of a member's spec.
    #[must_use]
    pub fn exit_timeout(&self) -> Duration {
        longest_grace(&self.0.members.lock().gateways)
    }

    /// Ends all gateways and empties the group: asks the workers to end, waits for all of them until one deadline, then kills
    /// those that are left together with what they started. Returns what came of each.
    ///
    /// What workers that end in time have started ends with them too. A worker that is just starting, in another thread or to
    /// replace one of a map, is not waited for: it is ended, and whoever started it gets [`StartError::Terminated`].
    ///
    /// # Errors
    /// [`WaitError::Interrupted`] cannot happen here; it is for [`terminate_with`](Self::terminate_with).
    pub fn terminate(&self, timeout: Duration) -> Result<Vec<(Gateway, Termination)>, WaitError> {
        self.terminate_with(&Wait::at_most(timeout), true)
    }

    /// As [`terminate`](Self::terminate), waiting as `wait` says; `sweep`: what workers have started ends with them. A wait without
    /// a deadline kills nothing.
    ///
    /// # Errors
    /// [`WaitError::Interrupted`] if the wait was interrupted; what has not ended stays in the group.
    pub fn terminate_with(
        &self,
        wait: &Wait<'_>,
        sweep: bool,
    ) -> Result<Vec<(Gateway, Termination)>, WaitError> {
        let launches = self.end_launches();
        let ended = end(self.gateways(), &wait.blocking(), sweep)?;
        self.wait_for_launches(launches, &wait.blocking().within(LAUNCH_END))?;
        for (gateway, _) in &ended {
            self.remove(gateway);
        }
        if self.is_empty() {
            self.0.masters.end();
        }
        self.0.outputs.settle();
        Ok(ended)
    }
}

impl Group {
    /// Kills what is just starting. Returns how often all gateways have been ended now.
    fn end_launches(&self) -> u64 {
        let mut members = self.0.members.lock();
        members.terminations += 1;
        let (terminations, starting) = (members.terminations, members.starting.clone());
        drop(members);
        starting.iter().for_each(Gateway::begin_kill);
        terminations
    }

    /// Waits until the launches are over that began before. One that takes its time ends by itself what it has started.
    fn wait_for_launches(&self, terminations: u64, wait: &Wait<'_>) -> Result<(), WaitError> {
        let mut members = self.0.members.lock();
        while members.launches.iter().any(|began| *began < terminations) {
            match wait.check() {
                Ok(()) => {}
                Err(WaitError::Timeout) => break,
                Err(error) => return Err(error),
            }
            let nap = wait.deaf_nap().unwrap_or(LAUNCH_END);
            self.0.launched.wait_for(&mut members, nap);
        }
        Ok(())
    }
}

fn longest_grace(gateways: &[Gateway]) -> Duration {
    gateways.iter().filter_map(|gateway| gateway.spec().grace).fold(DROP_TIMEOUT, Duration::max)
}

/// Ends gateways, relays after what they carry, all until one deadline.
fn end(
    mut gateways: Vec<Gateway>,
    wait: &Wait<'_>,
    sweep: bool,
) -> Result<Vec<(Gateway, Termination)>, WaitError> {
    // In the child of a fork there is nothing to end: the workers are its parent's.
    gateways.retain(|gateway| !gateway.link().is_inherited());
    let mut ended = Vec::with_capacity(gateways.len());
    while !gateways.is_empty() {
        let is_relay = |gateway: &Gateway| {
            gateways.iter().any(|other| other.relay() == Some(gateway.id()) && other != gateway)
        };
        let (mut now, mut later): (Vec<_>, Vec<_>) =
            gateways.iter().cloned().partition(|gateway| !is_relay(gateway));
        if now.is_empty() {
            std::mem::swap(&mut now, &mut later);
        }
        ended.extend(end_together(now, wait, sweep)?);
        gateways = later;
    }
    Ok(ended)
}

/// Ends gateways: asks all, waits for all, kills what is left.
fn end_together(
    gateways: Vec<Gateway>,
    wait: &Wait<'_>,
    sweep: bool,
) -> Result<Vec<(Gateway, Termination)>, WaitError> {
    for gateway in &gateways {
        gateway.begin_termination(sweep);
    }
    for gateway in &gateways {
        match gateway.wait(wait) {
            Ok(_) => {}
            Err(WaitError::Timeout) => gateway.begin_kill(),
            Err(error @ (WaitError::Interrupted | WaitError::Pending)) => return Err(error),
        }
    }
    // All that are to be killed are dying at the same time by now.
    Ok(gateways.into_iter().map(|gateway| (gateway.clone(), gateway.termination())).collect())
}

impl Members {
    fn has(&self, id: &str) -> bool {
        self.reserved.iter().any(|known| known == id)
            || self.gateways.iter().any(|gateway| gateway.id() == id)
    }

    fn new_id(&mut self) -> String {
        loop {
            let id = format!("gw{}", self.next_id);
            self.next_id += 1;
            if !self.has(&id) {
                return id;
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let gateways = std::mem::take(&mut self.members.lock().gateways);
        let timeout = longest_grace(&gateways);
        if let Err(error) = end(gateways, &Wait::at_most(timeout), true) {
            tracing::warn!(%error, "workers of a dropped group may go on");
        }
    }
}

impl TryFrom<&str> for Spec {
    type Error = crate::spec::SpecError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::from_str(text)
    }
}

impl TryFrom<String> for Spec {
    type Error = crate::spec::SpecError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_str(&text)
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gateways = self.gateways();
        let ids: Vec<_> = gateways.iter().map(|gateway| format!("'{}'", gateway.id())).collect();
        write!(f, "<Group [{}]>", ids.join(", "))
    }
}

//! The twins of [`Group`]'s calls, and that of [`Rsync`]'s: what takes several steps.

use std::time::Duration;

use super::apart::apart;
use crate::error::StartError;
use crate::gateway::{Gateway, Termination};
use crate::group::Group;
use crate::rsync::{Rsync, RsyncError, RsyncReport};
use crate::spec::Spec;
use crate::wait::{Wait, WaitError};

impl Group {
    /// Makes a gateway, as [`make_gateway`](Self::make_gateway) does.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn make_gateway_async<S: TryInto<Spec, Error: Into<StartError>>>(
        &self,
        spec: S,
    ) -> Result<Gateway, StartError> {
        let mut made = self.make_gateways_async([spec]).await?;
        made.pop().ok_or(StartError::Interrupted)
    }

    /// Makes several gateways at once, as [`make_gateways`](Self::make_gateways) does.
    ///
    /// # Errors
    /// [`StartError`] of the first that failed; none is left then.
    pub async fn make_gateways_async<S: TryInto<Spec, Error: Into<StartError>>>(
        &self,
        specs: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Gateway>, StartError> {
        let specs: Result<Vec<Spec>, StartError> =
            specs.into_iter().map(|spec| spec.try_into().map_err(Into::into)).collect();
        self.start_async(specs?).await
    }

    /// Makes gateways from parsed specs, as [`start`](Self::start) does.
    ///
    /// If the future is dropped before it is ready, none of them is left.
    ///
    /// # Errors
    /// [`StartError`]
    pub async fn start_async(&self, specs: Vec<Spec>) -> Result<Vec<Gateway>, StartError> {
        let (group, starting) = (self.clone(), self.clone());
        let unwanted = move |started: Result<Vec<Gateway>, StartError>| {
            for gateway in started.unwrap_or_default() {
                group.remove(&gateway);
                gateway.kill();
            }
        };
        apart(move |wait| starting.start(specs, wait), unwanted).await
    }

    /// Ends all gateways, as [`terminate`](Self::terminate) does.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # futures::executor::block_on(async {
    /// let group = farexec::Group::new();
    /// group.make_gateways_async(["popen"; 2]).await?;
    /// assert_eq!(group.terminate_async(Duration::from_secs(1)).await?.len(), 2);
    /// assert!(group.is_empty());
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// If the future is dropped before it is ready, the workers were asked to end all the same; what has not ended stays in the group. A group
    /// that is dropped with gateways in it waits for their end, in the thread that drops it: end it by this before.
    ///
    /// # Errors
    /// None so far: nothing but dropping it ends this wait.
    pub async fn terminate_async(&self, timeout: Duration) -> Result<Vec<(Gateway, Termination)>, WaitError> {
        self.terminate_with_async(Some(timeout), true).await
    }

    /// As [`terminate_async`](Self::terminate_async), with the choices of [`terminate_with`](Self::terminate_with): without a timeout, nothing is
    /// killed; `sweep`: what workers have started ends with them.
    ///
    /// # Errors
    /// None so far: nothing but dropping it ends this wait.
    pub async fn terminate_with_async(
        &self,
        timeout: Option<Duration>,
        sweep: bool,
    ) -> Result<Vec<(Gateway, Termination)>, WaitError> {
        let group = self.clone();
        let end = move |wait: &Wait<'_>| {
            let wait = timeout.map_or(*wait, |timeout| wait.within(timeout));
            group.terminate_with(&wait, sweep)
        };
        apart(end, drop).await
    }
}

impl Rsync {
    /// Sends everything to all targets, as [`send`](Self::send) does. If the future is dropped, files that were not finished are as they were.
    ///
    /// # Errors
    /// [`RsyncError`]
    pub async fn send_async(&self) -> Result<RsyncReport, RsyncError> {
        let rsync = self.clone();
        apart(move |wait| rsync.send_with(&mut (), wait), drop).await
    }
}

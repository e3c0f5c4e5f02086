//! The twins of [`Gateway`]'s calls. (Executing code never waits, so it has none.)

use std::path::PathBuf;

use farexec_proto::control::Status;

use super::asking::ask;
use crate::end::EndReason;
use crate::error::GatewayError;
use crate::gateway::Gateway;
use crate::imports::AllowError;
use crate::wait::WaitError;

impl Gateway {
    /// How the worker is doing, as [`remote_status`](Self::remote_status) tells.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # futures::executor::block_on(async {
    /// let group = farexec::Group::new();
    /// let gateway = group.make_gateway_async("popen").await?;
    /// assert_eq!(gateway.remote_status_async().await?.executing, 0);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`GatewayError`]
    pub async fn remote_status_async(&self) -> Result<Status, GatewayError> {
        let number = self.link().ask_status()?;
        let forget = |ticket: &_| self.link().forget_asker(None, ticket);
        ask(forget, |wait| Ok(self.link().answer(number, wait)?)).await
    }

    /// Waits until the worker has ended, and returns why, as [`wait`](Self::wait) does.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let group = farexec::Group::new();
    /// let gateway = group.make_gateway("popen")?;
    /// gateway.exit();
    /// let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    /// let reason = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), gateway.wait_async()).await })??;
    /// assert!(reason.is_orderly());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None so far: nothing but dropping it ends this wait.
    pub async fn wait_async(&self) -> Result<EndReason, WaitError> {
        ask(|ticket| self.link().forget_asker(None, ticket), |wait| self.wait(wait)).await
    }

    /// Has the worker import modules from here that it misses, as [`allow_imports`](Self::allow_imports) does.
    ///
    /// # Errors
    /// [`AllowError`]
    pub async fn allow_imports_async(
        &self,
        names: impl IntoIterator<Item: Into<String>>,
        roots: impl IntoIterator<Item: Into<PathBuf>>,
    ) -> Result<(), AllowError> {
        let channel = self.ask_to_import(names, roots)?;
        channel.receive_async::<()>().await?;
        self.imports().answer(channel)
    }
}

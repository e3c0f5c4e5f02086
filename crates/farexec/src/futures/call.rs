//! Calls, as futures.

use farexec_proto::Value;
use farexec_proto::serde::AsItem;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::{self, Call, CallError, RemoteFunction};
use crate::function::{Function, FunctionError};
use crate::gateway::Gateway;
use crate::payload::Payload;

impl Gateway {
    /// Calls a function at the worker, as [`call`](Self::call) does.
    ///
    /// If the future is dropped, the worker goes on with the call, and its result is dropped as well.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # futures::executor::block_on(async {
    /// let group = farexec::Group::new();
    /// let gateway = group.make_gateway_async("popen").await?;
    /// let root: f64 = gateway.call_async("math:sqrt", &(49,)).await?;
    /// assert_eq!(root, 7.0);
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn call_async<T: DeserializeOwned>(
        &self,
        function: impl TryInto<Function, Error: Into<FunctionError>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        self.function(function.try_into().map_err(Into::into)?).call_async(arguments).await
    }
}

impl RemoteFunction {
    /// Calls it, as [`call`](Self::call) does.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn call_async<T: DeserializeOwned>(
        &self,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<T, CallError> {
        let mut call = self.start(&AsItem(arguments), None::<&Value>)?;
        call::decode(&call.wait_async().await?)
    }
}

impl Call {
    /// Waits for the answer, as [`wait`](Self::wait) does. If the future is dropped, the answer can still be waited for.
    ///
    /// # Errors
    /// [`CallError`]
    pub async fn wait_async(&mut self) -> Result<Payload, CallError> {
        let received = self.channel()?.receive_payload_async().await;
        self.received(received)
    }
}

//! Takes a request on, or says at once that there are too many: nothing of it has been read then.

use super::client::Client;
use super::context::RequestContext;
use super::error::{Error, Result};
use crate::admission::Standing;

/// Gives the request its place among those in flight, until its context is dropped.
///
/// # Errors
/// [`Error::TooManyConnections`] on a connection above the limit, else [`Error::Overloaded`].
pub(super) fn run(cx: &mut RequestContext, client: &Client<'_>) -> Result<()> {
    if client.standing() == Standing::Crowd {
        return Err(Error::TooManyConnections);
    }
    let place = cx.shared.admission.requests.take();
    cx.place = Some(place.ok_or(Error::Overloaded)?);
    Ok(())
}

//! JSON patch (RFC 6902) and merge patch (RFC 7386).

use serde_json::Value;

use crate::status::Status;

/// Applies a JSON patch: all of it or nothing.
pub(crate) fn patch(object: &mut Value, patch: &Value, refuse: impl Fn(String) -> Status) -> Result<(), Status> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    json_patch::patch(object, &operations).map_err(|error| refuse(error.to_string()))
}

/// Applies a merge patch.
pub(crate) fn merge(object: &mut Value, patch: &Value) {
    json_patch::merge(object, patch);
}

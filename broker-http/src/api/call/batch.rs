//! Several requests in one: `batch`.

use broker_core::Refusal;

use super::{Call, ITEMS_MAX, check_count};
use crate::api::{json::Value, method::Method};

/// Do several things; what cannot be read is refused alone.
#[derive(Debug)]
pub(crate) struct BatchCall {
    pub(crate) commands: Vec<Result<(Method, Call), Refusal>>,
    /// Whether the order does not matter.
    pub(crate) parallel: bool,
}

impl BatchCall {
    pub(super) fn read(arguments: &Value<'_>) -> Result<Self, Refusal> {
        let fields = arguments.fields(&["commands", "parallel"])?;
        let commands = fields.required("commands")?;
        let elements = commands.elements()?;
        check_count(commands, elements.len(), ITEMS_MAX)?;
        Ok(Self { commands: elements.iter().map(command).collect(), parallel: fields.flag("parallel")? })
    }
}

/// One command of a batch: an object whose one field is named after the method.
fn command(command: &Value<'_>) -> Result<(Method, Call), Refusal> {
    let mut named = command.entries()?.into_iter().filter(|(_, arguments)| !arguments.is_null());
    let Some((name, arguments)) = named.next() else { return Err(command.refuse("names no method")) };
    if named.next().is_some() {
        return Err(command.refuse("must name one method alone"));
    }
    let method = Method::named(&name)?;
    if method == Method::Batch {
        return Err(arguments.refuse("is a batch within a batch"));
    }
    Ok((method, Call::read(method, &arguments)?))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn a_command_that_cannot_be_read_spoils_no_batch() {
        let body = r#"{"parallel":true,"commands":[{"publish":{"channel":"a","data":1}},{"publish":{"channel":7}},{"frobnicate":{}},
            {},7,{"info":{},"channels":{}},{"batch":{}},{"disconnect":{}},{"info":{},"publish":null}]}"#;
        let Call::Batch(call) = read("batch", body).unwrap() else { panic!() };
        let messages: Vec<_> =
            call.commands.iter().map(|command| command.as_ref().map_err(|refusal| &*refusal.message).map(|(method, _)| *method)).collect();
        assert!(call.parallel);
        assert_eq!(
            messages,
            [
                Ok(Method::Publish),
                Err("commands[1].publish.channel must be a string, not a number"),
                Err("there is no method frobnicate"),
                Err("commands[3] names no method"),
                Err("commands[4] must be an object, not a number"),
                Err("commands[5] must name one method alone"),
                Err("commands[6].batch is a batch within a batch"),
                Err("commands[7].disconnect names nobody"),
                Ok(Method::Info),
            ]
        );
        check("batch", r#"{"commands":{}}"#, "commands must be an array, not an object", Some(12));
    }
}

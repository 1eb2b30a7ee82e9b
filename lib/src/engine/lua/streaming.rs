//! The global `Streaming`, which is said in Lua.

use mlua::Lua;

use super::fault::{self, Fault};
use super::traceback::OWN;
use crate::error::{Class, Error};

/// Makes `Streaming`. Behind [`super::coroutine::open`], whose functions it uses.
pub(super) fn open(lua: &Lua) -> mlua::Result<()> {
    let fail = |_: &Lua, message: String| -> Result<(), Fault> { Err(Error::new(Class::Usage, message).into()) };
    let fail = fault::function(lua, "fail", fail)?;
    lua.load(include_str!("streaming.lua")).set_name(OWN).call::<()>(fail)
}

use crate::Options;
pub(crate) fn run(_: &Options) -> std::io::Result<()> {
    Ok(())
}

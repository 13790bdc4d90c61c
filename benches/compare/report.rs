//! What a run has found: printed as it is found, and kept for the page.

use std::path::{Path, PathBuf};
use std::{fs, io};

use offheap_benches::figures::Table;

use super::goals::Goals;
use super::page;
use super::plot::{Bars, Lines};

/// Tables, remarks and plots in the order in which they came, and the goals.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) goals: Goals,
    body: String,
    /// Names of files, and what is in them.
    plots: Vec<(String, String)>,
}

impl Report {
    pub(crate) fn table(&mut self, title: &str, table: Table) {
        table.print(title);
        self.body += &format!("### {title}\n\n{table}\n");
    }

    pub(crate) fn text(&mut self, text: impl AsRef<str>) {
        println!("{}", text.as_ref());
        self.body += text.as_ref();
        self.body.push('\n');
    }

    pub(crate) fn bars(&mut self, name: &str, bars: Bars) {
        self.plot(name, &bars.title, bars.svg());
    }

    pub(crate) fn lines(&mut self, name: &str, lines: Lines) {
        self.plot(name, &lines.title, lines.svg());
    }

    fn plot(&mut self, name: &str, title: &str, svg: String) {
        let file = format!("{name}.svg");
        self.body += &format!("![{title}]({}/{file})\n\n", page::PLOTS);
        self.plots.push((file, svg));
    }

    pub(crate) fn print_goals(&self) {
        println!("\n### Goals\n\n{}", self.goals.table());
    }

    /// Writes the page and its plots into a folder; answers the page's path.
    pub(crate) fn write(&self, folder: &Path, quick: bool) -> io::Result<PathBuf> {
        let plots = folder.join(page::PLOTS);
        fs::create_dir_all(&plots)?;
        for (file, svg) in &self.plots {
            fs::write(plots.join(file), svg)?;
        }
        let page = folder.join(page::NAME);
        fs::write(&page, page::text(quick, &self.goals.table(), &self.body))?;
        Ok(page)
    }
}

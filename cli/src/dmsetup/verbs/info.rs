//! `info`: blocks of lines, or a column report.

use std::time::Duration;

use super::devices::{Devices, Names, Row, Style, open_report};
use crate::dmsetup::report::Report;
use crate::dmsetup::session::{Done, Session};

/// The columns where `-o` names none.
const COLUMNS: &str = "name,major,minor,attr,open,segments,events,uuid";

/// `info [DEVICE...]`.
pub(super) fn info(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let columns = session.options.columns;
    let mut report = match columns {
        true => Some(open_report(session, COLUMNS)?),
        false => {
            Style::of(session)?;
            None
        }
    };
    let interval = session.options.interval_s;
    let default = if interval.is_some() { 0 } else { 1 };
    let count = session.options.count.unwrap_or(default);
    let mut round = 1;
    loop {
        match &mut report {
            Some(report) => columns_once(session, words, report)?,
            None => blocks_once(session, words)?,
        }
        if round == count {
            return Ok(());
        }
        round += 1;
        session.flush()?;
        std::thread::sleep(Duration::from_secs(interval.unwrap_or(1).into()));
        if columns {
            session.print("\n")?;
        }
    }
}

fn blocks_once(session: &mut Session<'_, '_>, words: &[String]) -> Done {
    let select = session.options.select.take();
    let shown = Devices::of(session, words)?.each(session, &mut |session, device| {
        let status = session.known_status(&device.task)?;
        session.print_info(&status)
    });
    session.options.select = select;
    shown
}

fn columns_once(session: &mut Session<'_, '_>, words: &[String], report: &mut Report) -> Done {
    let mut names = Names::default();
    // The report itself selects.
    let select = session.options.select.take();
    let filled = Devices::of(session, words)?.each(session, &mut |session, device| {
        let row = Row::ask(session, device, report, &mut names)?;
        if report.is_on_statistics() {
            return Ok(());
        }
        let added = report.add(&mut |field| row.value(field));
        session.try_text(added)
    });
    session.options.select = select;
    let text = report.print();
    session.print(text)?;
    filled
}

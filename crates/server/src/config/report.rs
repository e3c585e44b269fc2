//! Everything that is wrong or odd about a configuration, in one report.

use std::fmt;

use super::tree::Origin;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The server does not start with it.
    Error,
    /// The server starts, and something will not be as the configuration says.
    Warning,
}

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub origin: Origin,
    /// The key, or the variable's name; empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong and what to do. Never holds a secret.
    pub text: String,
}

/// All problems of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// Adds an error.
    pub fn error(&mut self, origin: Origin, key: impl Into<String>, text: impl Into<String>) {
        self.add(Severity::Error, origin, key.into(), text.into());
    }

    /// Adds a warning.
    pub fn warning(&mut self, origin: Origin, key: impl Into<String>, text: impl Into<String>) {
        self.add(Severity::Warning, origin, key.into(), text.into());
    }

    fn add(&mut self, severity: Severity, origin: Origin, key: String, text: String) {
        self.problems.push(Problem { severity, origin, key, text });
    }

    /// Makes every warning an error (`--strict`).
    pub fn be_strict(&mut self) {
        for problem in &mut self.problems {
            problem.severity = Severity::Error;
        }
    }

    /// Puts errors first, each kind in the order of files and lines.
    pub fn sort(&mut self) {
        self.problems.sort_by(|a, b| (a.severity, &a.origin, &a.key).cmp(&(b.severity, &b.origin, &b.key)));
    }

    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    /// Whether the server must not start.
    pub fn is_fatal(&self) -> bool {
        self.errors().next().is_some()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: ")?;
        match &self.origin {
            Origin::Default => {}
            origin => write!(f, "{origin}: ")?,
        }
        if !self.key.is_empty() && !matches!(&self.origin, Origin::Environment(name) if *name == self.key) {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let (errors, warnings) = (self.errors().count(), self.warnings().count());
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        write!(f, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings))
    }
}

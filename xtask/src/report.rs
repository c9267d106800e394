//! Counting what passed, from the reports that `node --test`, pytest and cargo write.

use std::fmt;
use std::ops::AddAssign;

/// How many tests of a suite passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Count {
    /// Tests that passed.
    pub(crate) passed: usize,
    /// Tests that failed; a suite that could not run counts as one.
    pub(crate) failed: usize,
    /// Tests that did not run, for a reason they gave.
    pub(crate) skipped: usize,
}

impl Count {
    /// A suite that could not run.
    pub(crate) const BROKEN: Count = Count { passed: 0, failed: 1, skipped: 0 };

    /// Counts the cases of a JUnit report.
    pub(crate) fn of_junit(xml: &str) -> Self {
        let cases = xml.matches("<testcase").count();
        let failed = xml.matches("<failure").count() + xml.matches("<error").count();
        let skipped = xml.matches("<skipped").count();
        Count { passed: cases.saturating_sub(failed + skipped), failed, skipped }
    }

    /// Adds up the `test result:` lines of `cargo test`.
    pub(crate) fn of_cargo(text: &str) -> Self {
        let mut sum = Count::default();
        for line in text.lines().filter(|line| line.starts_with("test result:")) {
            let number = |word: &str| {
                let before = line.split(word).next().unwrap_or_default();
                before.trim_end().rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
            };
            sum += Count { passed: number(" passed"), failed: number(" failed"), skipped: number(" ignored") };
        }
        sum
    }

    /// A process that failed without a failed test counts as one failure.
    pub(crate) fn with_exit(mut self, success: bool) -> Self {
        if !success && self.failed == 0 {
            self.failed = 1;
        }
        self
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junit_cases_are_counted_by_their_outcome() {
        let xml = r#"<testsuites><testsuite errors="0"><testcase name="a"/><testcase name="b"><failure message="x">y</failure></testcase>
            <testcase name="c"><skipped/></testcase></testsuite></testsuites>"#;
        assert_eq!(Count::of_junit(xml), Count { passed: 1, failed: 1, skipped: 1 });
    }

    #[test]
    fn results_of_cargo_are_added_up() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                    test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(Count::of_cargo(text), Count { passed: 15, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_process_that_failed_is_never_all_green() {
        assert_eq!(Count::default().with_exit(false), Count::BROKEN);
    }
}

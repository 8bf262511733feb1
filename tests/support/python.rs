//! Tests written in Python, for Python clients.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::environment::prepared;

/// A test function that is run in a separate process.
#[derive(Debug)]
#[must_use = "nothing is started before `run` or `start`"]
pub struct PythonTest {
    name: String,
    command: Command,
}

/// Returns the test function `module.Class.test_…` with this name, in the folder of Python tests.
pub fn python_test(name: &str) -> PythonTest {
    let mut command = Command::new(prepared("TEST_PYTHON"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("python"));
    command.args(["-B", "-m", "unittest", name]).stdin(Stdio::null());
    // The caller's environment must not affect the test, and no proxy is used.
    for variable in ["PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE"] {
        command.env_remove(variable);
    }
    command.env("PYTHONNOUSERSITE", "1").env("no_proxy", "*");
    PythonTest { name: name.to_owned(), command }
}

impl PythonTest {
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the test and panics if it fails.
    pub fn run(self) {
        self.start().finish();
    }

    /// Starts the test.
    pub fn start(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.spawn().expect("Python starts");
        Running { name: self.name, child: Some(child) }
    }
}

/// A running test, killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Option<Child>,
}

impl Running {
    /// Waits for the test to end and panics if it failed.
    pub fn finish(mut self) {
        let child = self.child.take().expect("it is finished once");
        let output = child.wait_with_output().expect("a child can be waited for");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        // A skipped test also ends successfully.
        let passed = said.contains("Ran 1 test") && said.trim_end().ends_with("\nOK");
        assert!(output.status.success() && passed, "{}: {}\n{said}", self.name, output.status);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

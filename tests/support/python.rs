//! Tests written in Python, for clients that are.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::environment::prepared;

/// One test function to be run, in a process of its own.
#[derive(Debug)]
#[must_use = "nothing is started before `run` or `start`"]
pub struct PythonTest {
    name: String,
    command: Command,
}

/// The test function of this name, `module.Class.test_…`, in the folder of Python tests.
pub fn python_test(name: &str) -> PythonTest {
    let mut command = Command::new(prepared("TEST_PYTHON"));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("python"));
    command.args(["-B", "-m", "unittest", name]).stdin(Stdio::null());
    // What the caller's shell exports is not part of a test; no proxy stands before the server.
    for variable in ["PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE"] {
        command.env_remove(variable);
    }
    command.env("PYTHONNOUSERSITE", "1").env("no_proxy", "*");
    PythonTest { name: name.to_owned(), command }
}

impl PythonTest {
    /// One more variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end and fails as it fails.
    pub fn run(self) {
        self.start().finish();
    }

    /// Starts it and lets it run.
    pub fn start(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.command.spawn().expect("Python starts");
        Running { name: self.name, child: Some(child) }
    }
}

/// A test function that runs, killed when nobody waits for its end.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Option<Child>,
}

impl Running {
    /// Waits for its end and fails as it fails.
    pub fn finish(mut self) {
        let child = self.child.take().expect("it is finished once");
        let output = child.wait_with_output().expect("a child can be waited for");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        // One that was skipped ends well too.
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

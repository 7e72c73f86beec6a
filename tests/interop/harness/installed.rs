//! What must be installed for a test to mean anything.

use rustix::process::getuid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Something this crate does not bring along. `tests/setup.sh` installs all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A Go toolchain with Debian's memberlist package.
    Go,
    /// The Serf agent.
    Serf,
    /// A DNS server with SRV records.
    Dnsmasq,
    /// The HTTP client that our users have.
    Curl,
    /// Network namespaces with packet loss; takes root.
    Namespaces,
    /// A library that sets the clock of one program.
    Faketime,
    /// A proxy.
    Nginx,
    /// A proxy.
    Haproxy,
    /// A proxy.
    Caddy,
    /// A proxy.
    Apache,
    /// What the scripts of tests are written in.
    Python,
    /// Clients of Consul, each in a place of its own.
    ConsulClients,
    /// The one for npm.
    NpmConsul,
    /// OpenFeature's SDK for Python, and its way to ask a server.
    OpenFeature,
    /// A Go program that keeps values in Consul.
    Crypt,
    /// A Go toolchain with Debian's package of a client of Consul.
    GoConsul,
    /// Ansible with its collection of modules.
    Ansible,
    /// A browser, what drives it, and what judges a page.
    Browser,
    /// What makes requests of an OpenAPI document, strict readers of answers, and makers of
    /// clients.
    ApiClients,
}

const ALL: [Need; 19] = [
    Need::Go,
    Need::Serf,
    Need::Dnsmasq,
    Need::Curl,
    Need::Namespaces,
    Need::Faketime,
    Need::Nginx,
    Need::Haproxy,
    Need::Caddy,
    Need::Apache,
    Need::Python,
    Need::ConsulClients,
    Need::NpmConsul,
    Need::OpenFeature,
    Need::Crypt,
    Need::GoConsul,
    Need::Ansible,
    Need::Browser,
    Need::ApiClients,
];

/// Where `tests/setup.sh` puts what does not come from Debian.
pub const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/clients");
/// Clients of Consul for Python. They have one name, and so a place of its own each.
pub const CONSUL_CLIENTS: [&str; 3] = ["py-consul", "python-consul", "python-consul2"];

/// Where Debian keeps Go packages.
pub const GOPATH: &str = "/usr/share/gocode";

static MISSING: LazyLock<Vec<Need>> = LazyLock::new(|| {
    let missing: Vec<Need> = ALL.into_iter().filter(|need| !need.is_there()).collect();
    if !missing.is_empty() {
        // Past the capture of the test runner, once: a skipped test looks like a passed one.
        let line = format!("what needs {missing:?} is skipped (tests/setup.sh)\n");
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    }
    missing
});

/// Whether a test with these needs can run.
///
/// # Panics
/// When it can't although the environment says `CI=true`.
pub fn available(needs: &[Need]) -> bool {
    let missing: Vec<_> = needs.iter().filter(|need| MISSING.contains(need)).collect();
    // Being root is nothing that an installation could bring.
    let excused = |need: &&Need| **need == Need::Namespaces && !getuid().is_root();
    assert!(
        missing.iter().all(excused) || setting("CI").as_deref() != Some("true"),
        "{missing:?} missing in CI; tests/setup.sh installs everything"
    );
    missing.is_empty()
}

/// Whether the variants that take minutes are wanted: `GOSSIPYKV_LONG=1`.
pub fn long() -> bool {
    setting("GOSSIPYKV_LONG").as_deref() == Some("1")
}

/// The program that Go members run instead of one built on Debian's package:
/// `GOSSIPYKV_GO_PEER=PATH`, that of `tests/interop/peer` built on another version.
pub fn go_peer() -> Option<PathBuf> {
    setting("GOSSIPYKV_GO_PEER").map(PathBuf::from)
}

/// A number of seconds that the environment asks for.
///
/// # Panics
/// When it is no number.
pub fn seconds(name: &str) -> Option<u64> {
    let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{name}={text}"));
    setting(name).map(number)
}

#[expect(clippy::disallowed_methods, reason = "how to test is said in the environment")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Cargo's directory for files of tests.
pub fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

impl Need {
    fn is_there(self) -> bool {
        let package = PathBuf::from(GOPATH).join("src/github.com/hashicorp/memberlist");
        match self {
            Need::Go => go_peer().is_some() || (runs("go", &["version"]) && package.is_dir()),
            Need::Serf => runs("serf", &["version"]),
            Need::GoConsul => {
                let package = PathBuf::from(GOPATH).join("src/github.com/armon/consul-api");
                runs("go", &["version"]) && package.is_dir()
            }
            Need::Ansible => runs(
                &format!("{CLIENTS}/ansible/bin/python"),
                &["-c", "import ansible, ansible_collections.community.general, consul"],
            ),
            Need::Dnsmasq => runs("dnsmasq", &["--version"]),
            Need::Curl => runs("curl", &["--version"]),
            Need::Namespaces => {
                let name = format!("gkv-{}-try", std::process::id());
                let made = runs("ip", &["netns", "add", &name]);
                made && runs("ip", &["netns", "del", &name])
            }
            Need::Faketime => libfaketime().is_some(),
            Need::Nginx => runs("nginx", &["-v"]),
            Need::Haproxy => runs("haproxy", &["-v"]),
            Need::Caddy => runs("caddy", &["version"]),
            Need::Apache => runs("apache2", &["-v"]),
            Need::Python => runs("python3", &["--version"]),
            Need::ConsulClients => CONSUL_CLIENTS.iter().all(|name| {
                runs(&format!("{CLIENTS}/{name}/bin/python"), &["-c", "import consul"])
            }),
            Need::NpmConsul => {
                let folder = Path::new(CLIENTS).join("npm/node_modules/consul");
                runs("node", &["--version"]) && folder.is_dir()
            }
            Need::OpenFeature => runs(
                &format!("{CLIENTS}/openfeature/bin/python"),
                &["-c", "import openfeature.contrib.provider.ofrep"],
            ),
            Need::Browser => {
                let driver = format!("{CLIENTS}/browser/bin/python");
                let judge = Path::new(CLIENTS).join("npm-page/node_modules/axe-core");
                runs("chromium", &["--version"])
                    && runs(&driver, &["-c", "import playwright"])
                    && judge.is_dir()
            }
            Need::ApiClients => {
                let python = format!("{CLIENTS}/api/bin/python");
                let maker = Path::new(CLIENTS).join("npm-page/node_modules/openapi-typescript");
                runs(&python, &["-c", "import schemathesis, h11, openapi_python_client"])
                    && maker.is_dir()
            }
            // It has no question that succeeds; it is there if it can be asked.
            Need::Crypt => Command::new("crypt-xordataexchange").output().is_ok(),
        }
    }
}

/// The library, for `LD_PRELOAD`. Debian keeps it in the folder of the architecture.
pub fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let library = |folder: PathBuf| folder.join("faketime/libfaketime.so.1");
    folders.map(|folder| library(folder.path())).find(|library| library.exists())
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

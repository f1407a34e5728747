//! Who is to be asked to stop a process that is managed by something else, and how.

use super::shell;
use std::fmt;

/// Who is to be asked to stop a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Manager {
    /// A service of the system's systemd.
    Unit(String),
    /// A service of a user's own systemd.
    UserUnit(String),
    /// systemd itself, the system's or a user's, which listens for a service yet to be started:
    /// whichever, a socket unit made it.
    SocketUnit { by_user: bool },
    /// The whole id or name.
    Container { runtime: Runtime, id: String },
    /// Docker's process that publishes a container's port: without it the container is cut off.
    DockerProxy,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Runtime {
    Docker,
    Podman,
    Containerd,
    Kubernetes,
    Lxc,
    /// A container or virtual machine that systemd-machined registered.
    Machine,
    /// A container's id, but nothing that tells whose.
    Unknown,
}

impl fmt::Display for Manager {
    /// `nginx.service`, `docker container 0123456789ab`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Manager::Unit(unit) | Manager::UserUnit(unit) => f.write_str(unit),
            Manager::SocketUnit { .. } => f.write_str("a systemd socket unit"),
            Manager::DockerProxy => f.write_str("docker-proxy"),
            Manager::Container { runtime, id } => {
                let kind = match runtime {
                    Runtime::Docker => "docker container",
                    Runtime::Podman => "podman container",
                    Runtime::Containerd => "containerd container",
                    Runtime::Kubernetes => "kubernetes container",
                    Runtime::Lxc => "lxc container",
                    Runtime::Machine => "machine",
                    Runtime::Unknown => "container",
                };
                write!(f, "{kind} {}", short(id))
            }
        }
    }
}

impl Manager {
    /// What to do instead of killing the holder of `port`: a command where there is one. A user names the
    /// groups below his own as he likes, and advice gets pasted.
    pub fn advice(&self, port: u16) -> String {
        match self {
            Manager::Unit(unit) => format!("systemctl stop {}", shell::word(unit)),
            Manager::UserUnit(unit) => format!("systemctl --user stop {}", shell::word(unit)),
            Manager::SocketUnit { by_user } => {
                let systemctl = if *by_user {
                    "systemctl --user"
                } else {
                    "systemctl"
                };
                format!("{systemctl} stop its socket unit ({systemctl} list-sockets names it)")
            }
            Manager::DockerProxy => {
                format!("docker stop $(docker ps -q --filter publish={port})")
            }
            Manager::Container { runtime, id } => {
                let id = shell::word(short(id));
                match runtime {
                    Runtime::Docker => format!("docker stop {id}"),
                    Runtime::Podman => format!("podman stop {id}"),
                    Runtime::Containerd => format!("nerdctl stop {id}"),
                    // Kubernetes would start the container again: the pod has to go.
                    Runtime::Kubernetes => {
                        format!("kubectl delete its pod (crictl ps --id {id} names it)")
                    }
                    Runtime::Lxc => format!("lxc-stop -n {id}"),
                    Runtime::Machine => format!("machinectl poweroff {id}"),
                    Runtime::Unknown => format!("stop container {id} by what started it"),
                }
            }
        }
    }
}

/// Docker, Podman, containerd and CRI-O name containers so.
pub(super) fn is_container_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// As the runtimes print and take ids.
fn short(id: &str) -> &str {
    if is_container_id(id) { &id[..12] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(runtime: Runtime, id: &str) -> Manager {
        let id = id.to_owned();
        Manager::Container { runtime, id }
    }

    #[test]
    fn advice_can_be_pasted() {
        let id = "0123456789abcdef".repeat(4);
        for (manager, advice) in [
            (
                Manager::Unit("nginx.service".into()),
                "systemctl stop nginx.service",
            ),
            (
                Manager::UserUnit("foo@1.service".into()),
                "systemctl --user stop foo@1.service",
            ),
            (
                Manager::Unit(r"a\x2db.service".into()),
                r"systemctl stop 'a\x2db.service'",
            ),
            (
                Manager::UserUnit("$(x)'.service".into()),
                r"systemctl --user stop '$(x)'\''.service'",
            ),
            (
                Manager::DockerProxy,
                "docker stop $(docker ps -q --filter publish=8080)",
            ),
            (container(Runtime::Docker, &id), "docker stop 0123456789ab"),
            (container(Runtime::Podman, &id), "podman stop 0123456789ab"),
            (
                container(Runtime::Containerd, &id),
                "nerdctl stop 0123456789ab",
            ),
            (container(Runtime::Lxc, "web"), "lxc-stop -n web"),
            (
                container(Runtime::Machine, "web"),
                "machinectl poweroff web",
            ),
        ] {
            assert_eq!(manager.advice(8080), advice);
        }
        assert_eq!(
            container(Runtime::Docker, &id).to_string(),
            "docker container 0123456789ab"
        );
        assert_eq!(
            Manager::Unit("nginx.service".into()).to_string(),
            "nginx.service"
        );
    }
}

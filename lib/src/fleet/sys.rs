//! The system calls of the fleet that have no safe name: how a process ended that is no child, what a child does between
//! fork and exec, and who is at the other end of a local socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `struct pidfd_info` of linux/pidfd.h, its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`.
const GET_INFO: u64 = 0xc040_ff0b;
/// `PIDFD_INFO_EXIT`.
const INFO_EXIT: u64 = 1 << 3;

/// The wait status of a process that is gone, from Linux 6.15 on.
#[expect(unsafe_code, reason = "no crate has this ioctl")]
pub(super) fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo { mask: INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the descriptor is open; the structure has the size that stands in the number of the call.
    let code = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) };
    (code == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

/// The process that made the other end of a local socket; nothing when it has no number here, as in another PID name space.
#[expect(unsafe_code, reason = "rustix has no room for a PID of 0")]
pub(super) fn peer_process(socket: impl AsFd) -> Option<i32> {
    let mut who = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open; the structure has the size that is given.
    let code =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut who).cast(), &raw mut size) };
    (code == 0 && who.pid > 0).then_some(who.pid)
}

/// Makes the child of `command` the leader of a session of its own, in the cgroup whose `cgroup.procs` is given, with at
/// most `data` bytes of memory of its own.
#[expect(unsafe_code, reason = "what happens between fork and exec")]
pub(super) fn detach(command: &mut Command, cgroup: Option<File>, data: Option<u64>) {
    let prepare = move || {
        rustix::process::setsid()?;
        if let Some(procs) = &cgroup {
            rustix::io::write(procs, b"0")?;
        }
        if let Some(bytes) = data {
            let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
            rustix::process::setrlimit(rustix::process::Resource::Data, limit)?;
        }
        Ok::<(), io::Error>(())
    };
    // SAFETY: only system calls, no allocation and no lock.
    unsafe { command.pre_exec(prepare) };
}

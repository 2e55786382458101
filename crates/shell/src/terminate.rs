//! Ending all processes of a container politely (docker-executor §7.6, step 2).

/// Asks every process of the container but PID 1 and itself to end: TERM to each, the highest
/// PID first, with up to 6 s for each to be gone. To be run as `sh -c` by exec; the caller bounds
/// the whole of it (10 s in the peer) and stops the container afterwards.
///
/// Unlike the peer's it needs no `ls`, `grep` or `sort` in the image, looks every 0.1 s where
/// `sleep` can do that, and does not wait for zombies, which nobody may ever reap.
pub const TERMINATE_PROCESSES: &str = r#"pids=
for dir in /proc/[0-9] /proc/[0-9][0-9] /proc/[0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9][0-9][0-9] /proc/[0-9][0-9][0-9][0-9][0-9][0-9][0-9]; do
  [ -d "$dir" ] && pids="${dir#/proc/} $pids"
done
gone() {
  kill -0 "$1" 2>/dev/null || return 0
  stat=
  read -r stat 2>/dev/null < "/proc/$1/stat" || return 0
  case "$stat" in *') Z '*) return 0;; esac
  return 1
}
for pid in $pids; do
  case "$pid" in 1|"$$") continue;; esac
  kill -TERM "$pid" 2>/dev/null || continue
  tenths=0
  while [ "$tenths" -lt 60 ]; do
    if gone "$pid"; then break; fi
    if sleep 0.1 2>/dev/null; then tenths=$((tenths + 1)); else sleep 1; tenths=$((tenths + 10)); fi
  done
done
exit 0
"#;

# What both engines of this folder need; sourced, not run.

# The Debian mirror that this machine's apt is configured with.
debian_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 -E '/debian/?$' ||
    { echo 'no Debian mirror is configured for apt' >&2; return 1; }
}

# Start a program that outlives this script. It must hold none of the script's open files: whoever
# reads the script's output (`eval "$(.ci/docker-engine)"`) would wait for the daemon's end.
start_daemon() {
  local log=$1 fd
  shift
  (
    exec </dev/null >"$log" 2>&1
    for fd in /proc/$BASHPID/fd/*; do
      fd=${fd##*/}
      ((fd < 3)) || eval "exec $fd>&-"
    done
    exec setsid "$@"
  ) &
}

# supervise FOLDER BINARIES [ARGUMENT OF POSTGRES]...
#
# Makes a cluster in FOLDER and says "initialized". Then obeys, line by line: "start PORT" (answer: ready, or failed)
# and "kill" (answer: killed). At the end of the commands it stops the server and removes FOLDER.

# The reader of the answers may be gone, and the terminal too: what is left to do is done all the same.
trap '' HUP INT TERM PIPE

folder=$1 binaries=$2
shift 2
data=$folder/data
# The postmaster's process id, while there is one.
postmaster=
# The System V segment of a killed server. The next start removes it; without one, nobody would.
segment=

# Were this shell killed, the server would still stop. Only a few systems can ask for that.
at_our_death=
if setpriv --pdeathsig QUIT true 2>/dev/null; then at_our_death='setpriv --pdeathsig QUIT'; fi

children_of() {
    if [ -r /proc/self/status ]; then
        grep -ls "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | cut -d/ -f3
    else
        pgrep -P "$1"
    fi
}

# One letter, of which Z is a process that has ended and T one that is stopped; nothing if there is none.
state_of() {
    if [ -r /proc/self/status ]; then
        sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null
    else
        ps -o state= -p "$1" | cut -c1
    fi
}

# Waits until process $1 is in one of the states $2, or gone; fails after $3 hundredths of a second.
await() {
    polls=0
    while state=$(state_of "$1"); [ -n "$state" ]; do
        case $2 in *"$state"*) return 0 ;; esac
        [ "$polls" -lt "$3" ] || return 1
        polls=$((polls + 1))
        sleep 0.01
    done
}

runs() { [ -n "$postmaster" ] && children_of $$ | grep -qx "$postmaster"; }

crash() {
    # A stopped postmaster neither starts a process nor waits for one: the list is complete, and stays true.
    kill -STOP "$postmaster"
    await "$postmaster" TZ 1000
    children=$(children_of "$postmaster")
    [ -z "$children" ] || kill -KILL $children 2>/dev/null
    # Ends later than the signal is sent; a server that starts meanwhile would find the memory in use.
    for child in $children; do await "$child" Z 3000; done
    kill -KILL "$postmaster"
    wait "$postmaster" 2>/dev/null
    postmaster=
    segment=$(sed -n '7s/.* //p' "$data/postmaster.pid" 2>/dev/null)
    # By now the id in it may be another process's, for which PostgreSQL would take it.
    rm -f "$data/postmaster.pid"
}

stop() {
    # Immediately, yet PostgreSQL removes what it has in the system. It kills who does not obey within five seconds.
    kill -QUIT "$postmaster"
    if await "$postmaster" Z 1000; then wait "$postmaster" 2>/dev/null; else crash; fi
    postmaster=
}

start() {
    port=$1
    shift
    # shellcheck disable=SC2086 # several words, or none
    $at_our_death "$binaries/postgres" -D "$data" -k "$folder" -p "$port" "$@" </dev/null >&2 &
    postmaster=$!
    polls=0
    # The server says so itself, in a file of its own: an answer on the port may be somebody else's.
    until sed -n 8p "$data/postmaster.pid" 2>/dev/null | grep -q '^ready'; do
        if ! runs || [ "$(state_of "$postmaster")" = Z ]; then
            wait "$postmaster" 2>/dev/null
            postmaster=
            return 1
        fi
        if [ "$polls" -ge 6000 ]; then
            echo "not ready after $polls polls" >&2
            crash
            return 1
        fi
        polls=$((polls + 1))
        sleep 0.01
    done
    segment=
}

# What this makes is not worth a sync: if the machine loses power, the test is gone too.
if "$binaries/initdb" -D "$data" --username=postgres --auth=trust --no-locale --encoding=UTF8 --no-sync </dev/null >&2
then echo initialized; else echo failed; fi

# Before it recovers, PostgreSQL syncs its folder, file by file: seconds, for more than a thousand never synced before.
# From 14 on, Linux does that in one call.
sync='recovery_init_sync_method=syncfs'
if "$binaries/postgres" -D "$data" -c "$sync" -C "${sync%=*}" </dev/null >/dev/null 2>&1; then set -- -c "$sync" "$@"; fi

while read -r command port; do
    case $command in
    start) if start "$port" "$@"; then echo ready; else echo failed; fi ;;
    kill)
        if runs; then crash; fi
        echo killed
        ;;
    esac
done

if runs; then stop; fi
[ -z "$segment" ] || ipcrm -m "$segment"
cd / && rm -rf "$folder"

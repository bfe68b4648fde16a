# Runs a broker for as long as the test process lives: sh -c "$(cat guard.sh)" guard DIRECTORY COMMAND…
#
# Standard input is a pipe whose other end only the test process holds. Each line on it names a signal for the
# broker, which is sent and then echoed. Its end means that the test process is gone, however it went: the
# broker is killed and DIRECTORY, its data, removed. When the broker ends by itself, so does this, with its
# exit status.
directory=$1
shift
exec 3<&0
"$@" </dev/null >>"$directory/broker.log" 2>&1 3<&- &
broker=$!
{
    while read -r signal <&3; do
        kill -s "$signal" "$broker" 2>/dev/null
        echo "$signal"
    done
    : >"$directory/abandoned"
    kill -s KILL "$broker" 2>/dev/null
} &
reader=$!
exec 3<&- >/dev/null
wait "$broker"
status=$?
kill "$reader" 2>/dev/null
if [ -e "$directory/abandoned" ]; then rm -rf -- "$directory"; fi
exit "$status"

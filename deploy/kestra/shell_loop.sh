#!/bin/sh
# Waits for a call in the style of the original design, for a task of type io.kestra.plugin.scripts.shell.Commands.
# Wants CALL_ID, SERVICE_URL and TOKEN in the environment, and curl and jq in the image. Unlike the original it
#   - prints with printf: the echo of dash, the sh of Debian and Ubuntu, makes line breaks of the \n inside JSON;
#   - waits for data_status and not for "ended", which comes seconds before the report;
#   - leaves the transcript out, and keeps the token off the command line;
#   - ends with the one line that Kestra reads as outputs: outputs.<task>.vars.call_result.

MAX_ATTEMPTS=${MAX_ATTEMPTS:-420}
INTERVAL_S=${INTERVAL_S:-5}

for i in $(seq 1 "$MAX_ATTEMPTS"); do
  RESULT=$(printf 'header = "Authorization: Bearer %s"\n' "$TOKEN" |
    curl -s --max-time 15 --config - "$SERVICE_URL/api/v1/vapi/calls/$CALL_ID?view=summary")
  STATUS=$(printf '%s' "$RESULT" | jq -r '.data.data_status // .error // empty' 2>/dev/null)

  case $STATUS in
    complete | fetch_failed)
      printf '::{"outputs":{"call_result":%s}}::\n' "$(printf '%s' "$RESULT" | jq -c .data)"
      exit 0
      ;;
  esac

  printf 'Attempt %s/%s: %s\n' "$i" "$MAX_ATTEMPTS" "${STATUS:-no answer}"
  sleep "$INTERVAL_S"
done

printf 'Call %s has no final record after %s attempts\n' "$CALL_ID" "$MAX_ATTEMPTS" >&2
exit 1

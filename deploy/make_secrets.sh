#!/bin/sh
# Writes the secrets that compose.yaml and compose.archive.yaml need to the folder secrets beside this file, each with a value of its own where
# there is none yet. Only the folder is closed to others: containers run as users of their own, and must read the files.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
cd secrets

random() { od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n'; }

# write NAME VALUE: in one step, so that nobody ever reads half of it.
write() {
  if [ ! -s "$1" ]; then
    printf '%s\n' "$2" > ".$1"
    chmod 444 ".$1"
    mv -f ".$1" "$1"
    echo "wrote secrets/$1"
  fi
}

write redis_password "$(random)"
write redis_url "redis://:$(cat redis_password)@redis:6379/0"
write vapi_webhook_secret "$(random)"
write metrics_token "$(random)"
# Kestra's token, and the one that Prometheus reads the metrics with.
write api_read_tokens "$(random),$(cat metrics_token)"
write api_admin_tokens "$(random)"
write grafana_password "$(random)"
# For compose.archive.yaml.
write postgres_password "$(random)"
write database_url "postgresql://vapi_cache:$(cat postgres_password)@postgres/calls"

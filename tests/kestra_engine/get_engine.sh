#!/bin/bash
# Kestra's own engine of one version from Maven Central, compiled with its thin REST layer, in .cache/kestra-<version>/.
# Does nothing when that is up to date. Says what is missing, with status 3, where it cannot be had.
set -euo pipefail

version=$1
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../../.cache/kestra-$version

missing() { echo "$1" >&2; exit 3; }

java_home=
for folder in "${JAVA_25_HOME:-}" /usr/lib/jvm/*25* "${JAVA_HOME:-}"; do
    if "$folder/bin/javac" -version 2>/dev/null | grep -q '^javac 25'; then java_home=$folder; break; fi
done
[[ -n $java_home ]] || missing "Java 25 is not installed (JAVA_25_HOME says where it is)"

# The class path names files of Maven's own folder, which may have been cleared since.
if [[ ! -e $cache/classpath ]] || ! tr ':' '\n' <"$cache/classpath" | xargs -d '\n' ls >/dev/null 2>&1; then
    command -v mvn >/dev/null || missing "Maven is not installed"
    mkdir -p "$cache"
    timeout 300 mvn -q -B -ntp -f "$here/pom.xml" -Dkestra.version="$version" \
        dependency:build-classpath -Dmdep.outputFile="$cache/classpath.new" >"$cache/maven.log" 2>&1 \
        || missing "Maven cannot get Kestra $version: .cache/kestra-$version/maven.log says why, or it took over 300 s"
    mv "$cache/classpath.new" "$cache/classpath"
    rm -rf "$cache/classes"
fi

sources=("$here"/java/*.java "$here/java/v${version%%.*}"/*.java)
for source in "${sources[@]}" "$here/java/logback.xml"; do
    [[ $cache/classes/logback.xml -nt $source ]] || is_outdated=1
done
if [[ -n ${is_outdated:-} ]]; then
    rm -rf "$cache/classes"
    mkdir -p "$cache/classes"
    "$java_home/bin/javac" -proc:none -Xlint:-unchecked -d "$cache/classes" -cp "$(<"$cache/classpath")" "${sources[@]}"
    cp "$here/java/logback.xml" "$cache/classes/"
fi
echo "$java_home/bin/java"

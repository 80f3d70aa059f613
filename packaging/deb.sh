#!/bin/sh
# Builds the Debian package: target/debian/quire_*.deb. Needs cargo-deb (cargo install cargo-deb).
# QUIRE_PROFILE=dev packages what `cargo build` makes, to try this script.
set -eu
cd "$(dirname "$0")/.."

profile=${QUIRE_PROFILE:-release}
case $profile in
    dev) built=debug ;;
    *) built=$profile ;;
esac
target=${CARGO_TARGET_DIR:-target}
cargo build --locked --package quire --profile "$profile"

# The binary describes itself: manual pages and completions are of this very build.
made=packaging/made
rm -rf "$made"
mkdir -p "$made"
"$target/$built/quire" man "$made/man"
gzip -9n "$made"/man/*
for shell in bash zsh fish; do
    "$target/$built/quire" completions "$shell" > "$made/quire.$shell"
done

cargo deb --package quire --profile "$profile" --no-build --locked "$@"

# A checkpoint: the facts, each on its line.
cd "$FIXTURES"
"$UNZERO" inspect good-pickle-inert-system

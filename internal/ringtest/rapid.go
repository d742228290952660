package ringtest

import (
	"flag"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Rapid is rapid.Check with a seed that is logged, and taken from SeedVariable if set: a failure
// can be repeated by it, or as rapid says. It does so many checks unless
// -rapid.checks asks for another number than rapid's own default.
func Rapid(t *testing.T, checks int, property func(*rapid.T)) {
	t.Helper()
	const ownDefault = "100"
	setFlag(t, "rapid.seed", "0", strconv.FormatUint(Random(t).Uint64()|1, 10))
	setFlag(t, "rapid.checks", ownDefault, strconv.Itoa(checks))
	rapid.Check(t, property)
}

// setFlag sets a flag that has the value old until the test ends.
func setFlag(t *testing.T, name, old, value string) {
	t.Helper()
	if flag.Lookup(name).Value.String() != old {
		return
	}
	require.NoError(t, flag.Set(name, value))
	t.Cleanup(func() { require.NoError(t, flag.Set(name, old)) })
}

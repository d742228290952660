//go:build !(linux && amd64)

package tracer

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnsupported(t *testing.T) {
	_, err := New()
	require.ErrorIs(t, err, ErrUnsupported)
}

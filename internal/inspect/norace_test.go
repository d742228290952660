//go:build !race

package inspect

const underRace = false

//go:build !linux

package main

import "errors"

// Follow runs the commands of the guide. Elsewhere than on Linux it says what is missing.
func Follow(root, built string, verbose bool) (missing string, err error) {
	return "namespaces of Linux", nil
}

func runStage(string, []string) error { return errors.ErrUnsupported }

func ask([]string) int { return 1 }

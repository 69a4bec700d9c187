//go:build unix

package postgres_test

import "context"

var testContext = context.Background()

//go:build !js

package durable

const defaultMaxOpen = 256

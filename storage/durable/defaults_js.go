package durable

const defaultMaxOpen = 16

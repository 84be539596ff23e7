module github.com/manul-net/manul/test/e2e

go 1.26.0

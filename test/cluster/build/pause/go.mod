module github.com/manul-net/manul/test/cluster/build/pause

go 1.26.0

// Boost.JSON is compiled here, once, and linked as cairn::json.
#include <boost/json/src.hpp>

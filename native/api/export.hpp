// What the shared library shows.
#pragma once

#define RF_API __attribute__((visibility("default")))

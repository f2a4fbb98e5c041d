namespace rocmforge {}
